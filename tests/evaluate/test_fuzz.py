"""Benchmarks' files, files of answers and reviews, and what an evaluation leaves in its folder, spoilt."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fuzzing import fuzz
from judge_server import write_bench
from scienceqa_set import write_set
from vistune.data.scienceqa import load_problems, split_ids
from vistune.evaluate.benchmarks import Benchmark, Setting, benchmarks
from vistune.evaluate.benchmarks._reviews import load_rules
from vistune.evaluate.compare import print_comparison
from vistune.evaluate.rescore import Truth, rescore
from vistune.evaluate.results import AnswerFile, Scores, verdict_row, write_verdicts
from vistune.evaluate.runner import measure, score

Rows = Iterable[dict[str, Any]]
POPE = [
    {"question_id": n, "image": f"{n // 2}.jpg", "text": f"Is there a {name} in the image?", "label": label}
    for n, (name, label) in enumerate([("dog", "yes"), ("cat", "no"), ("cow", "yes"), ("dog", "no")])
]
VQA = [
    {"question_id": n, "image_id": n, "question": "What is it?", "answers": [{"answer": "dog"}] * 10,
     "answer_type": "other"} for n in range(3)
]  # fmt: skip
REVIEWS = [
    {
        "question_id": n,
        "answer1_id": "a",
        "answer2_id": "b",
        "category": "conv",
        "content": "8 7\nWell.",
        "tuple": [8, 7],
    }
    for n in range(3)
]


def lines(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path) -> Path:
    image = base64.b64encode(bytes(100)).decode()
    rows = [("0", image, "Which?", "dog", "cat", "A", "c"), ("1", "0", "And now?", "cow", "cat", "B", "d")]
    columns = ("index", "image", "question", "A", "B", "answer", "category")
    path.write_text("\n".join("\t".join(row) for row in (columns, *rows)) + "\n")
    return path


def answers(path: Path, questions: Rows) -> Path:
    told = [(row["question_id"], row.get("image", ""), row.get("text", row.get("question"))) for row in questions]
    return lines(path, [dict(zip(("question_id", "image", "prompt"), one, strict=True), text="Yes.") for one in told])


def scored_by(name: str, path: Path, **options: Any) -> None:
    setting = Setting(path, images=path.parent, unpacked=path.parent / "unpacked", options=options)
    made: Benchmark = benchmarks.get(name)(setting)
    questions = list(made.questions())
    measure(made, score(made, questions, ["yes, the dog: A"] * len(questions)))


def mme(folder: Path) -> Path:
    (folder / "mme" / "count").mkdir(parents=True)
    (folder / "mme" / "count" / "a.jpg").write_bytes(b"")
    text = folder / "mme" / "count" / "a.txt"
    text.write_text("Is there a dog?\tYes\nIs there a cat?\tNo\n")
    return text


def questions(path: Path) -> Path:
    row = {"image": "0.png", "question": "How many?"}
    kinds = {"exact": "two", "number": "2", "box": "0.1, 0.2, 0.3, 0.4", "soft": ["a", "b", "c"], "contains": "a"}
    return lines(path, [{**row, "id": kind, "type": kind, "answers": answer} for kind, answer in kinds.items()])


WRITERS: dict[str, Callable[[Path], Path]] = {
    "pope": lambda folder: lines(folder / "pope.json", POPE), "tsv": lambda folder: table(folder / "x.tsv"),
    "vqa": lambda folder: lines(folder / "vqa.json", [{"data": VQA}]), "mme": mme,
    "questions": lambda folder: questions(folder / "questions.jsonl"),
    "scienceqa": lambda folder: write_set(folder / "set", 2, 3) / "problems.json",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_benchmarks(name: str, tmp_path: Path) -> None:
    file = WRITERS[name](tmp_path)
    setting = {"mme": tmp_path / "mme", "scienceqa": file.parent}.get(name, file)
    fuzz([file], lambda: scored_by(name, setting, scienceqa_format="direct"))


def test_llava_bench(tmp_path: Path) -> None:
    from vistune.evaluate.benchmarks.llava_bench import LlavaBench
    from vistune.evaluate.judges import Judges
    from vistune.llm.budget import Limits

    folder = write_bench(tmp_path / "bench")
    judges = Judges([], tmp_path, Limits())
    files = sorted(folder.glob("*.json*"))
    fuzz(files, lambda: list(LlavaBench(Setting(folder, judges=judges)).questions()))


@pytest.mark.parametrize("kind", ["pope", "mmbench", "vqa", "reviews", "scienceqa", None])
def test_answers_of_others(kind: str | None, tmp_path: Path) -> None:
    file, truth = tmp_path / "answers.jsonl", tmp_path / "truth.tsv"
    if kind == "mmbench":
        answers(file, [{"question_id": 0, "question": "Which?"}])
        table(truth)
    elif kind == "vqa":
        answers(file, VQA)
        lines(truth := tmp_path / "vqa.json", [{"data": VQA}])
    elif kind == "reviews":
        lines(file, REVIEWS)
    elif kind == "scienceqa":
        truth = write_set(tmp_path / "set", 2, 3) / "problems.json"
        lines(file, [{"question_id": str(n), "text": "B"} for n in (101, 102, 103)])
    else:
        answers(file, POPE)
        lines(truth := tmp_path / "pope.json", POPE)
    files = [one for one in (file, truth) if one.exists()]
    known = Truth(files[1:], truth if kind == "scienceqa" else None)
    fuzz(files, lambda: rescore([file], kind, known))


def test_scienceqa_problems_and_splits(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 2, 3)
    fuzz([folder / "problems.json", folder / "pid_splits.json"],
         lambda: split_ids(load_problems(folder), folder, "test"))  # fmt: skip


def test_a_judges_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rule.json"
    rules.write_text(json.dumps({"conv": {"role": "Assistant", "prompt": "Judge."}}))
    fuzz([rules], lambda: load_rules(rules))


def test_an_evaluations_folder(tmp_path: Path) -> None:
    file = lines(tmp_path / "pope.json", POPE)
    made = benchmarks.get("pope")(Setting(file, images=tmp_path))
    asked = list(made.questions())
    found = score(made, asked, ["yes"] * len(asked))
    write_verdicts(tmp_path, [verdict_row("pope", one.question, "yes", one.verdict, "m") for one in found])
    Scores("m", {"pope": measure(made, found)}).write(tmp_path)
    silent = Console(file=io.StringIO())
    files = [tmp_path / "verdicts.jsonl", tmp_path / "scores.json"]
    fuzz(files, lambda: print_comparison([tmp_path, tmp_path], silent))


def test_answers_to_resume_from(tmp_path: Path) -> None:
    AnswerFile(tmp_path).add([{"key": str(n), "text": "A dog."} for n in range(4)])
    fuzz([tmp_path / "answers.jsonl"], lambda: AnswerFile(tmp_path))
