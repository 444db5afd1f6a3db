"""ScienceQA on a small problem set: converted, trained on, evaluated, combined with a second model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scienceqa_set import write_set
from vistune.cli import main
from vistune.errors import VistuneError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.scienceqa import ScienceQA
from vistune.evaluate.judges import Judges
from vistune.evaluate.models import Prompt
from vistune.evaluate.results import load_scores, load_verdicts
from vistune.evaluate.runner import run_benchmarks
from vistune.llm import Client, Reply, Request
from vistune.llm.budget import Limits
from vistune.recipe import schema
from vistune.recipe.training import Recipe

RIGHT = {str(n): "ABC"[n % 3] for n in range(101, 113)}


class Model:
    """Answers by the number of the problem, and keeps its prompts."""

    name = identity = "model"

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say, self.prompts, self.lengths = say, list[Prompt](), set[int]()

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        assert batch_size
        self.prompts += prompts
        self.lengths.add(max_new_tokens)
        for index, prompt in enumerate(prompts):
            yield index, self.say(number(prompt.text))


class Second(Client):
    """A second model with given replies by kind of request and problem; keeps the requests."""

    name = "second"

    def __init__(self, replies: dict[str, dict[str, str]]) -> None:
        self.replies, self.requests = replies, list[Request]()

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(self.replies[request.kind].get(request.record_id, "I cannot see it."), self.name)


def number(text: str) -> str:
    return text.partition("is box ")[2][:3]


def states(letter: str) -> str:
    return f"Because. The answer is {letter}."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "scienceqa")


def make(data: Path, judges: Judges | None = None, **options: Any) -> ScienceQA:
    return ScienceQA(Setting(data, options=options, judges=judges))


def test_the_direct_prompt_is_llavas(data: Path) -> None:
    hinted, pictured = list(make(data).questions())[1:3]
    choices = "Options: (A) red (B) green (C) blue"
    instruction = "Answer with the option's letter from the given choices directly."
    assert hinted.text == f"Context: The box is red.\nQuestion: Which colour is box 102?\n{choices}\n{instruction}"
    assert hinted.images == (data / "images/test/102/image.png",)
    assert pictured.text.startswith("Context: N/A\nQuestion: Which colour is box 103?\n")
    assert (pictured.images, pictured.references) == ((), ("green",))


def test_prompts_are_those_of_training(data: Path, tmp_path: Path) -> None:
    model = Model(lambda _: "")
    run_benchmarks(model, {"scienceqa": make(data, scienceqa_format="QCM-LEA", split="train")}, tmp_path)
    main(["scienceqa", str(data), "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "train_QCM-LEA.json").read_text())
    learned = [row["conversations"][0]["value"].removeprefix("<image>\n") for row in rows]
    assert [prompt.text for prompt in model.prompts] == learned
    assert model.lengths == {1024}


def test_cells_by_the_official_extraction(data: Path, tmp_path: Path) -> None:
    special = {"101": "The answer is C", "102": "maybe", "103": "The answer is E."}
    model = Model(lambda pid: special.get(pid, RIGHT[pid]))
    scores = run_benchmarks(model, {"scienceqa": make(data)}, tmp_path).benchmarks["scienceqa"]
    values = {name: (one.value, one.n) for name, one in scores.measures.items()}
    assert values["accuracy"] == (9 / 12, 12)
    assert values["tolerant"] == (10 / 12, 12)
    assert values["failed"] == (2 / 12, 12)
    assert values["accuracy/IMG"] == (5 / 6, 6)
    assert values["accuracy/TXT"] == (3 / 4, 4)
    assert values["accuracy/NO"] == (2 / 4, 4)
    assert [values[f"accuracy/{name}"][1] for name in ("NAT", "SOC", "LAN", "G1-6", "G7-12")] == [4, 4, 4, 6, 6]
    assert list(values)[:10] == [
        "accuracy", *(f"accuracy/{name}" for name in ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12")),
        "tolerant",
    ]  # fmt: skip
    explanations = [row["explanation"] for row in load_verdicts(tmp_path)]
    assert explanations[0] == "has no answer by the official rule; read tolerantly: C"
    assert explanations[3] == "is one letter"


def test_ensembles_with_a_second_model(data: Path, tmp_path: Path) -> None:
    model = Model(lambda pid: RIGHT[pid] if int(pid) < 109 else "D")
    solved = {pid: states(RIGHT[pid] if int(pid) > 104 else "D") for pid in RIGHT if pid != "101"}
    decided = {pid: states(RIGHT[pid] if pid != "112" else "D") for pid in RIGHT if pid != "110"}
    second = Second({"scienceqa": solved, "scienceqa-judge": decided})

    def run() -> dict[str, float | None]:
        judges = Judges([second], tmp_path, Limits(attempts=2))
        with judges.opened():
            scores = run_benchmarks(model, {"scienceqa": make(data, judges)}, tmp_path).benchmarks["scienceqa"]
        assert scores.protocol == {"extraction": "official", "second": "second"}
        return {name: measure.total for name, measure in scores.measures.items()}

    totals = run()
    assert totals["accuracy"] == totals["second"] == 8
    assert (totals["differ"], totals["both_right"], totals["either_right"]) == (8, 4, 12)
    assert totals["second_failed"] == 1
    assert totals["complement"] == 9  # 101 failed, where the model is right
    assert totals["judge"] == 4 + 6  # 110 has no third answer, and the one to 112 is wrong

    for kind, count in (("scienceqa", 12), ("scienceqa-judge", 8)):
        sent = [request for request in second.requests if request.kind == kind]
        assert len({request.record_id for request in sent}) == count
        assert len(sent) == count + 1  # an answer that cannot be read is requested once more
    request = second.requests[0]
    assert [message.role for message in request.messages] == ["user", "assistant"] * 2 + ["user"]
    assert not any(pid in message.text for pid in RIGHT for message in request.messages[:4])  # they are of `train`
    assert "The answer is " in request.messages[1].text
    query = next(one for one in second.requests if one.kind == "scienceqa-judge" and one.record_id == "109").query
    assert "D\n" in query
    assert states("B") in query
    verdicts, before = (tmp_path / "verdicts.jsonl").read_bytes(), len(second.requests)
    assert run() == totals
    assert (len(second.requests), (tmp_path / "verdicts.jsonl").read_bytes()) == (before, verdicts)


def test_ensembles_need_one_second_model_and_two_examples(data: Path, tmp_path: Path) -> None:
    pair = [Second({}), Second({})]
    pair[1].name = "third"
    with pytest.raises(VistuneError, match="one second model"):
        make(data, Judges(pair, tmp_path, Limits()))
    alone = write_set(tmp_path / "alone", train=1)
    with pytest.raises(VistuneError, match="two solved problems"):
        make(alone, Judges(pair[:1], tmp_path, Limits()))


def test_from_problems_to_ensembles(data: Path, backbones: Path, tmp_path: Path) -> None:
    """The commands of the guide, with tiny random backbones."""
    assert main(["scienceqa", str(data), "--format", "QCM-A", "--out", str(tmp_path)]) == 0
    stage = {
        "name": "tune", "data": str(tmp_path / "train_QCM-A.json"), "images": str(data / "images"),
        "trains": ["projector", "language"], "epochs": 2, "batch_size": 4, "micro_batch_size": 4,
        "learning_rate": 1e-2, "max_length": 512,
    }  # fmt: skip
    model = {
        "vision_tower": str(backbones / "vision"), "language_model": str(backbones / "language"),
        "projector": "linear",
    }  # fmt: skip
    schema.save(Recipe.model_validate({"name": "sqa", "model": model, "stages": [stage]}), tmp_path / "recipe.yaml")
    assert main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 0

    replies = [(pid, kind, states(RIGHT[pid])) for pid in RIGHT for kind in ("scienceqa", "scienceqa-judge")]
    lines = [json.dumps({"id": pid, "kind": kind, "text": text}) for pid, kind, text in replies]
    (tmp_path / "replies.jsonl").write_text("\n".join(lines))
    out = str(tmp_path / "scores")
    options = ["--scienceqa-format", "QCM-A", "--judge", f"scripted:{tmp_path / 'replies.jsonl'}", "--out", out]
    assert main(["eval", str(tmp_path / "run/tune"), "--benchmarks", f"scienceqa={data}", *options]) == 0
    scores = load_scores(Path(out))
    assert scores.benchmarks["scienceqa"].n == 12
    assert scores.accuracy is not None
    assert scores.value("second") == scores.value("complement") == scores.value("judge") == 1
    assert scores.value("both_right") == scores.accuracy
