"""Runs a model on every benchmark's questions, has the answers judged and writes both to files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from rich.console import Console
from rich.table import Table

from vistune.errors import CheckpointError, DataError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.statistics import Measure
from vistune.records import ImageRecord, Question, Verdict
from vistune.storage import atomic_text


class Answerer(Protocol):
    """The model under evaluation; `model.assistant.Assistant` is one."""

    def answer(
        self, prompts: Sequence[tuple[Image.Image | Path, str]], *, max_new_tokens: int, batch_size: int
    ) -> list[str]:
        """An answer to each (image, question), in order."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The measures of an evaluation by name, with 95 % intervals."""

    label: str
    measures: Mapping[str, Measure]

    def value(self, name: str) -> float | None:
        return self.measures[name].value

    @property
    def accuracy(self) -> float | None:
        """The share of correct answers to the questions with one exact answer."""
        return self.value("accuracy")

    @property
    def by_type(self) -> dict[str, float | None]:
        """The accuracy for each type of question."""
        types = [name for name in self.measures if name.startswith("accuracy/")]
        return {name.removeprefix("accuracy/"): self.value(name) for name in types}

    def as_json(self) -> dict[str, Any]:
        """Plain values: `label`, `n` questions, the value of each measure, `by_type`, and all with their intervals."""
        plain = {name: self.value(name) for name in self.measures if "/" not in name}
        details = {name: asdict(measure) for name, measure in self.measures.items()}
        n = self.measures["accuracy"].n
        return {"label": self.label, "n": n, **plain, "by_type": self.by_type, "measures": details}


def evaluate(
    assistant: Answerer | str | Path,
    records: Sequence[ImageRecord],
    *,
    out: Path,
    label: str,
    seed: int = 0,
    limit: int | None = None,
    blank_images: bool = False,
    batch_size: int = 64,
) -> Scores:
    """Answer every benchmark's questions about `records`; writes `out/answers.jsonl` and `out/scores.json`.

    `assistant` may be the folder of a checkpoint. `blank_images` replaces every image by a uniform gray: the result
    is what can be guessed. `limit` is the number of images with questions, from the first.

    Raises DataError if there is no question.
    """
    model = _load(assistant) if isinstance(assistant, str | Path) else assistant
    model_id = str(assistant) if isinstance(assistant, str | Path) else label
    rows: list[dict[str, Any]] = []
    measures: dict[str, Measure] = {}
    for name in benchmarks.names():
        benchmark = benchmarks.get(name)(records, Setting(seed, limit))
        prompts = _prompts(benchmark.questions, records, blank_images)
        texts = model.answer(prompts, max_new_tokens=benchmark.max_new_tokens, batch_size=batch_size)
        verdicts = [benchmark.judge(*pair) for pair in zip(benchmark.questions, texts, strict=True)]
        rows += _rows(name, benchmark.questions, texts, verdicts, model_id)
        measures |= benchmark.measure(texts)
    if not rows:
        raise DataError("there is no question: no image has a box", fix="give images with boxes")
    scores = Scores(label, measures)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_text(out / "answers.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with atomic_text(out / "scores.json") as file:
        file.write(json.dumps(scores.as_json(), indent=2) + "\n")
    return scores


def load_scores(folder: Path) -> Scores:
    """The scores that `evaluate` wrote to `folder`. Raises CheckpointError if there are none."""
    path = folder / "scores.json"
    if not path.is_file():
        raise CheckpointError("there are no scores here", where=str(path), fix="run `vistune eval` first")
    content = json.loads(path.read_text("utf-8"))
    return Scores(content["label"], {name: Measure(**measure) for name, measure in content["measures"].items()})


def load_answers(folder: Path) -> list[dict[str, Any]]:
    """The rows of the answers.jsonl that `evaluate` wrote to `folder`."""
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]


def print_scores(scores: Sequence[Scores], console: Console | None = None) -> None:
    """Print the scores as a table, one column each, with their intervals."""
    table = Table("", title="Scores, % (95 % interval)")
    for column in scores:
        table.add_column(column.label, justify="right")
    for rows in sections(scores).values():
        for title, name in rows.items():
            table.add_row(title, *[_formatted(column.measures[name]) for column in scores])
        table.add_section()
    (console or Console()).print(table)


_SECTIONS = {
    "By wording": {"as in training": "seen", "never in training": "unseen"},
    "Detailed descriptions": {
        "hallucinated mentions (CHAIR_i)": "chair",
        "descriptions with one (CHAIR_s)": "chair_s",
        "objects mentioned (recall)": "recall",
    },
}


def sections(scores: Sequence[Scores]) -> dict[str, dict[str, str]]:
    """The sections of a table of scores: for each the titles of its rows and the names of their measures."""
    exact = {"all questions": "accuracy"} | {kind: f"accuracy/{kind}" for kind in scores[0].by_type}
    return {"Exact answers": exact} | _SECTIONS


def _formatted(measure: Measure) -> str:
    """`93.1 (91.0-94.8)`, in per cent; a dash where there was nothing to measure."""
    if measure.value is None or measure.low is None or measure.high is None:
        return "-"
    return f"{100 * measure.value:.1f} ({100 * measure.low:.1f}-{100 * measure.high:.1f})"


def _load(path: str | Path) -> Answerer:
    from vistune.model.assistant import Assistant

    assistant: Answerer = Assistant.load(path)
    return assistant


def _prompts(
    questions: Sequence[Question], records: Sequence[ImageRecord], blank: bool
) -> list[tuple[Image.Image | Path, str]]:
    """Each question with its image, or with gray of the image's size: one object a size, encoded once."""
    if not blank:
        return [(question.image, question.text) for question in questions]
    sizes = {record.image: (record.width, record.height) for record in records}
    grays = {size: Image.new("RGB", size, (128, 128, 128)) for size in set(sizes.values())}
    return [(grays[sizes[question.image]], question.text) for question in questions]


def _rows(
    benchmark: str, questions: Sequence[Question], texts: Sequence[str], verdicts: Sequence[Verdict], model_id: str
) -> Iterator[dict[str, Any]]:
    """A row for each answer: the keys of LLaVA's answer files, and those of the verdict."""
    for question, text, verdict in zip(questions, texts, verdicts, strict=True):
        yield {
            "question_id": question.id,
            "image": str(question.image),
            "benchmark": benchmark,
            "type": question.type,
            "seen": question.seen,
            "prompt": question.text,
            "reference": question.reference,
            "text": text,
            "correct": verdict.correct,
            "reason": verdict.reason,
            "model_id": model_id,
        }
