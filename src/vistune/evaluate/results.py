"""The files of an evaluation: answers, verdicts and scores.

answers.jsonl    one line an answer, added as it is written: what a second run need not generate again
verdicts.jsonl   one line a scored question: everything that reports and comparisons need
scores.json      the metrics of each benchmark with their intervals
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vistune.errors import CheckpointError, DataError, VistuneError
from vistune.evaluate.benchmarks import Scored
from vistune.evaluate.statistics import Measure
from vistune.formats import Row, read_as
from vistune.reading import read_json
from vistune.records import Question, Verdict
from vistune.storage import atomic_text, storage_errors, sync

ANSWERS, VERDICTS, SCORES = "answers.jsonl", "verdicts.jsonl", "scores.json"
_AGAIN = "run `vistune eval` again, into a new folder"


@dataclass(frozen=True, slots=True)
class BenchmarkScores:
    """The measures of one benchmark. `protocol` is what besides the questions determines them, such as the judge."""

    n: int
    unscored: int
    measures: Mapping[str, Measure]
    protocol: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a model by benchmark."""

    label: str
    benchmarks: Mapping[str, BenchmarkScores]

    @property
    def measures(self) -> dict[str, Measure]:
        """All measures by name; of two benchmarks' measures of the same name the first."""
        first_wins = list(self.benchmarks.values())[::-1]
        return {name: measure for one in first_wins for name, measure in one.measures.items()}

    def value(self, name: str) -> float | None:
        """The value of a measure. Raises KeyError if there is none of that name."""
        return self.measures[name].value

    @property
    def accuracy(self) -> float | None:
        """The share of correct answers to the questions with one exact answer."""
        return self.value("accuracy")

    @property
    def by_type(self) -> dict[str, float | None]:
        """The accuracy for each type of question."""
        return {
            name.removeprefix("accuracy/"): measure.value
            for name, measure in self.measures.items()
            if name.startswith("accuracy/")
        }

    def as_json(self) -> dict[str, Any]:
        """`label`, the plain value of each measure, `by_type`, and per benchmark all measures with their intervals."""
        plain = {name: measure.value for name, measure in self.measures.items() if "/" not in name}
        details = {name: asdict(scores) for name, scores in self.benchmarks.items()}
        n = sum(scores.n for scores in self.benchmarks.values())
        return {"label": self.label, "n": n, **plain, "by_type": self.by_type, "benchmarks": details}

    def write(self, folder: Path) -> None:
        """Write scores.json."""
        with atomic_text(folder / SCORES) as file:
            file.write(json.dumps(self.as_json(), indent=2) + "\n")


def load_scores(folder: Path) -> Scores:
    """The scores that `evaluate` wrote to `folder`. Raises CheckpointError if there are none, or older ones."""
    path = folder / SCORES
    if not path.is_file():
        raise CheckpointError("there are no scores here", where=str(path), fix="run `vistune eval` first")
    content = read_json(path, CheckpointError)
    if not isinstance(content, dict) or "benchmarks" not in content:
        raise CheckpointError("an older version wrote these scores", where=str(path), fix=_AGAIN)
    try:
        return TypeAdapter(Scores).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"these are no scores: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise CheckpointError(what, where=str(path), fix=_AGAIN) from None


def check_comparable(a: Scores, b: Scores) -> None:
    """Raise VistuneError if a benchmark that both have was scored differently: by another judge, rule or truth."""
    for name in [name for name in a.benchmarks if name in b.benchmarks]:
        ours, theirs = a.benchmarks[name].protocol, b.benchmarks[name].protocol
        for key in dict.fromkeys([*ours, *theirs]):
            if ours.get(key) != theirs.get(key):
                what = f"not comparable, the {key} differ: {ours.get(key)} of {a.label}, {theirs.get(key)} of {b.label}"
                raise VistuneError(what, where=name, fix="evaluate both models in the same way")


def write_verdicts(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write verdicts.jsonl."""
    with atomic_text(folder / VERDICTS) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def load_verdicts(folder: Path) -> list[dict[str, Any]]:
    """The rows of verdicts.jsonl, see `verdict_row`. Raises CheckpointError if there are none."""
    path = folder / VERDICTS
    rows = list(read_as(path, DataError, _checked)) if path.is_file() else []
    if not rows:
        raise CheckpointError("there are no verdicts here", where=str(path), fix=_AGAIN)
    return rows


def _checked(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = row.values
    if missing := [key for key in _ROW if key not in values]:
        raise DataError(f"the key '{missing[0]}' is missing", where=row.where, fix=_AGAIN)
    scored(values)
    return values | {key: str(values[key]) for key in ("question_id", "benchmark", "type", "prompt", "text")}


_ROW = (
    "question_id", "benchmark", "type", "images", "prompt", "choices", "references", "details", "text", "value",
    "answer", "explanation", "parts", "model_id",
)  # fmt: skip


def verdict_row(benchmark: str, question: Question, answer: str, verdict: Verdict, model: str) -> dict[str, Any]:
    """A line of verdicts.jsonl: the keys of LLaVA's answer files, the question and the verdict."""
    return {
        "question_id": question.id,
        "benchmark": benchmark,
        "type": question.type,
        "images": [str(image) for image in question.images],
        "prompt": question.text,
        "choices": list(question.choices),
        "references": list(question.references),
        "details": dict(question.details),
        "text": answer,
        "value": verdict.value,
        "answer": verdict.answer,
        "explanation": verdict.explanation,
        "parts": dict(verdict.parts),
        "model_id": model,
    }


def scored(row: Mapping[str, Any]) -> Scored:
    """The question and verdict of a line of verdicts.jsonl. Raises TypeError or the like if it is none."""
    question = Question(
        str(row["question_id"]), str(row["prompt"]), tuple(map(Path, row["images"])), str(row["type"]),
        tuple(map(str, row["references"])), tuple(map(str, row["choices"])), dict(row["details"]),
    )  # fmt: skip
    value = None if row["value"] is None else _finite(row["value"])
    parts = {str(name): _finite(part) for name, part in row["parts"].items()}
    return Scored(question, Verdict(value, str(row["answer"]), str(row["explanation"]), parts))


def _finite(number: Any) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{value} is no score")
    return value


class AnswerFile:
    """answers.jsonl: answers by their key, added line by line, so that a killed run loses no answer on disk.

    A power cut loses those since the last `sync`. Each line has a digest of key and text; raises DataError for one that
    is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ANSWERS
        self._texts: dict[str, str] = {}
        for row in self._rows():
            self._texts[row["key"]] = row["text"]

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add answers, each with `key` and `text`. Raises StorageError if the disk is full."""
        lines = [json.dumps({**row, "digest": _digest(row)}, ensure_ascii=False) + "\n" for row in rows]
        with storage_errors(self._path), self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)
        self._texts |= {row["key"]: row["text"] for row in rows}

    def sync(self) -> None:
        """Flush the answers, and the file's name, to the disk. Raises StorageError if it is full."""
        with storage_errors(self._path):
            sync(self._path)
            sync(self._path.parent)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The whole lines; a last one that a kill cut off is removed from the file."""
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            whole = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    file.truncate(whole)
                    return
                whole += len(line)
                if (row := _whole_row(line)) is None:
                    fix = "remove this line: its answer is then generated again"
                    raise DataError("this line is damaged", where=f"{self._path}: line {number}", fix=fix)
                yield row


def _whole_row(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None if it is not as it was written. Lines from before there were digests have none."""
    try:
        row = json.loads(line)
        return row if row.get("digest", _digest(row)) == _digest(row) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest(row: Mapping[str, Any]) -> str:
    # as in the file, half of a surrogate pair is `?`
    content = f"{row['key']}\0{row['text']}".encode(errors="replace")
    return hashlib.blake2b(content, digest_size=8).hexdigest()
