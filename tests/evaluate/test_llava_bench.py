from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from judge_server import write_bench, write_lines
from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.benchmarks.llava_bench import LlavaBench
from vistune.evaluate.compare import print_comparison
from vistune.evaluate.judges import Judges
from vistune.evaluate.results import BenchmarkScores, Scores, check_comparable
from vistune.evaluate.runner import measure, score
from vistune.llm import Client, Reply, Request
from vistune.llm.budget import Limits
from vistune.records import Question

Score = Callable[[str, bool], float]
"""A judge's points for an answer, which is the first of the two or not."""


class Judge(Client):
    def __init__(self, points: Score, name: str = "judge") -> None:
        self.name, self._points = name, points
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        answers = re.findall(r"\[\w+ [12]\]\n(.*?)\n\n\[End of", request.query, re.DOTALL)
        scores = [min(10.0, max(1.0, self._points(text, not place))) for place, text in enumerate(answers)]
        return Reply(f"{scores[0]:.6g} {scores[1]:.6g}\nBecause.", self.name)


def quality(text: str) -> float:
    return float(text.split()[0].removeprefix("quality="))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench(tmp_path_factory.mktemp("bench") / "coco")


def opened(bench: Path, out: Path, *judges: Client, **options: object) -> LlavaBench:
    asked = Judges(judges or [Judge(lambda text, _: quality(text))], out, Limits(attempts=2))
    made = benchmarks.get("llava_bench")(Setting(bench, options=options, judges=asked))
    assert isinstance(made, LlavaBench)
    return made


def scores(benchmark: LlavaBench, say: Callable[[Question], str]) -> BenchmarkScores:
    questions = list(benchmark.questions())
    assert benchmark.setting.judges
    with benchmark.setting.judges.opened():
        return measure(benchmark, score(benchmark, questions, [say(question) for question in questions]))


def values(found: BenchmarkScores) -> Mapping[str, float | None]:
    return {name: one.value for name, one in found.measures.items()}


def test_coco(bench: Path, tmp_path: Path) -> None:
    questions = list(opened(bench, tmp_path).questions())
    assert len(questions) == 90
    assert questions[5].id == "5"
    assert questions[5].type == "complex"
    assert questions[5].images == (bench / "images/000000000001.jpg",)
    assert questions[5].details == {"context": "A dog in 000000000001.jpg.\n\ndog: [0.1, 0.2, 0.3, 0.405]"}
    assert questions[5].references[0].startswith("quality=8")


def test_in_the_wild(tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "images/001.jpg")
    write_lines(
        folder / "questions.jsonl",
        [{"question_id": n, "image": "001.jpg", "text": "?", "category": "conv"} for n in range(2)],
    )
    write_lines(folder / "context.jsonl", [{"id": 0, "image": "001.jpg", "caption": "A place."}])
    for name in ("answers_gpt4", "bard_0718"):  # the published folder has other models' answers, too
        rows = [{"question_id": n, "prompt": "?", "answer_id": "x", "model_id": name, "text": name} for n in range(2)]
        write_lines(folder / f"{name}.jsonl", rows)
    rules = {"conv": "no", "llava_bench_conv": "yes"}
    (tmp_path / "rule.json").write_text(json.dumps({k: {"role": "Helper", "prompt": v} for k, v in rules.items()}))
    judge = Judge(lambda *_: 8.0)
    benchmark = opened(folder, tmp_path, judge, rules=str(tmp_path / "rule.json"))
    assert values(scores(benchmark, lambda _: "An answer."))["relative_score"] == 1
    assert judge.requests[0].query == (
        "[Context]\nA place.\n\n[Question]\n?\n\n[Helper 1]\nanswers_gpt4\n\n[End of Helper 1]\n\n"
        "[Helper 2]\nAn answer.\n\n[End of Helper 2]\n\n[System]\nyes\n\n"
    )
    assert (judge.requests[0].temperature, judge.requests[0].max_tokens) == (0.2, 1024)


def test_the_older_file_has_questions_and_answers_in_one(bench: Path, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(bench / "images", folder / "images")
    shutil.copy(bench / "caps_boxes_coco2014_val_80.jsonl", folder)
    image = "COCO_val2014_000000000001.jpg"
    row = {"id": "000000000001", "image": image, "instruction": "?", "output": "quality=8", "type": "detail"}
    write_lines(folder / "any name.jsonl", [row, row | {"type": "conv"}])
    questions = list(opened(folder, tmp_path).questions())
    assert [(one.id, one.type) for one in questions] == [("0", "detail"), ("1", "conv")]
    assert questions[0].images == (folder / "images/000000000001.jpg",)
    assert questions == list(opened(folder / "any name.jsonl", tmp_path).questions())


def test_what_is_missing_is_named(bench: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    shutil.copytree(bench, folder)
    (folder / "images/000000000003.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 30 images are missing, such as .*000000000003.jpg"):
        list(opened(folder, tmp_path).questions())
    lines = (folder / "qa90_gpt4_answer.jsonl").read_text().splitlines()
    (folder / "qa90_gpt4_answer.jsonl").write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="line 90: the question 89 has no reference answer"):
        list(opened(folder, tmp_path).questions())
    (folder / "qa90_gpt4_answer.jsonl").unlink()
    with pytest.raises(DataError, match=r"the reference answers are missing: answers_gpt4.jsonl or qa90_gpt4_answer"):
        list(opened(folder, tmp_path).questions())
    with pytest.raises(DataError, match="add --judge"):
        LlavaBench(Setting(bench))
    (tmp_path / "rules.json").write_text('{"conv": "text"}')
    with pytest.raises(DataError, match=r"rules.json: these are not a judge's rules"):
        opened(bench, tmp_path, rules=str(tmp_path / "rules.json"))


def test_relative_score_by_category_with_both_sides(bench: Path, tmp_path: Path) -> None:
    own = {"conv": 4, "detail": 6, "complex": 8}
    found = scores(opened(bench, tmp_path), lambda question: f"quality={own[question.type]} and nothing else")
    assert {name: value for name, value in values(found).items() if "/" not in name} == {
        "relative_score": pytest.approx(0.75), "answer_score": pytest.approx(0.6),
        "reference_score": pytest.approx(0.8),
        "length_controlled": None, "length_difference": pytest.approx(4 / 51 - 1), "flip_rate": 0,
    }  # fmt: skip
    assert values(found)["relative_score/conv"] == 0.5
    assert found.measures["relative_score"].n == 90


def test_both_orders_cancel_the_bias_for_a_place_and_show_it(bench: Path, tmp_path: Path) -> None:
    def biased(text: str, first: bool) -> float:
        return quality(text) + first

    both = values(scores(opened(bench, tmp_path, Judge(biased)), lambda _: "quality=7.5"))
    assert both["relative_score"] == pytest.approx(8.0 / 8.5)
    assert both["flip_rate"] == 1
    judge = Judge(biased)
    paper = opened(bench, tmp_path / "paper", judge, protocol="paper")
    found = values(scores(paper, lambda _: "quality=7.5"))
    assert found["relative_score"] == pytest.approx(0.833)  # 7.5 / 9 with the official rounding
    assert "flip_rate" not in found
    assert len(judge.requests) == 90


def test_a_panel(bench: Path, tmp_path: Path) -> None:
    mild, harsh = Judge(lambda text, _: quality(text), "mild"), Judge(lambda text, _: quality(text) - 3, "or/harsh")
    found = scores(opened(bench, tmp_path, mild, harsh), lambda question: f"quality={4 + int(question.id) % 4}")
    assert found.protocol["judges"] == ["mild", "or/harsh"]
    answer = sum(4 + number % 4 for number in range(90)) / 90
    assert values(found)["relative_score"] == pytest.approx((answer - 1.5) / 6.5)
    assert values(found)["judge_agreement"] == pytest.approx(0.1, abs=0.2)  # they differ by as much as the answers do
    same = opened(bench, tmp_path / "same", mild, Judge(lambda text, _: quality(text), "twin"))
    assert values(scores(same, lambda _: "quality=5"))["judge_agreement"] == 1


def test_a_pair_that_a_judge_of_the_panel_cannot_score_is_unscored(bench: Path, tmp_path: Path) -> None:
    class Moody(Judge):
        async def complete(self, request: Request) -> Reply:
            reply = await super().complete(request)
            silent = request.record_id == "5" and request.kind == "review"
            return replace(reply, text="Hard to say.") if silent else reply

    judges = Judge(lambda text, _: quality(text), "calm"), Moody(lambda text, _: quality(text), "moody")
    found = scores(opened(bench, tmp_path, *judges), lambda _: "quality=6")
    assert (found.unscored, values(found)["relative_score"]) == (1, 0.75)
    assert found.measures["relative_score"].n == 89


def test_the_order_of_models_is_recovered_from_a_judge_that_likes_length(bench: Path, tmp_path: Path) -> None:
    """The simulated judge adds 1 to the first answer and 0.5 per doubling of length: the longest seems best."""

    def judge(text: str, first: bool) -> float:
        return quality(text) + first + 0.5 * math.log2(len(text.split()) / 50)

    raw, controlled = [], []
    for model in range(5):

        def say(question: Question, model: int = model) -> str:
            rng = Random(f"{model} {question.id}")
            words = round(50 * 2 ** (2 - model + rng.gauss(0, 1)))
            return f"quality={rng.gauss(6 + 0.25 * model, 0.4)} {'word ' * (words - 1)}"

        found = values(scores(opened(bench, tmp_path / str(model), Judge(judge)), say))
        raw.append(found["relative_score"])
        controlled.append(found["length_controlled"])
    assert raw == sorted(raw, reverse=True)
    assert controlled == sorted(controlled)
    assert controlled == pytest.approx([(6.5 + 0.25 * model) / 8.5 for model in range(5)], abs=0.03)


def test_scores_of_other_judges_rules_or_orders_are_not_compared(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"default": {"role": "Assistant", "prompt": "Score them."}}')
    judges = [Judge(lambda text, _: quality(text), name) for name in ("a", "b")]
    made = [
        opened(bench, tmp_path, judges[0]), opened(bench, tmp_path, judges[1]),
        opened(bench, tmp_path, judges[0], protocol="paper"),
        opened(bench, tmp_path, judges[0], rules=str(tmp_path / "rules.json")),
    ]  # fmt: skip
    first, *others = [Scores(f"run {n}", {"llava_bench": measure(one, [])}) for n, one in enumerate(made)]
    check_comparable(first, first)
    for other, what in zip(others, ("judges", "orders", "rules"), strict=True):
        with pytest.raises(VistuneError, match=rf"llava_bench: not comparable, the {what} differ: .* of run 0"):
            check_comparable(first, other)
    for name, one in {"a": first, "b": others[0]}.items():
        (tmp_path / name).mkdir()
        one.write(tmp_path / name)
    with pytest.raises(VistuneError, match="the judges differ"):
        print_comparison([tmp_path / "a", tmp_path / "b"])
