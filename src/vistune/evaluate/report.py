"""The report on evaluations: one HTML file with scores, paired differences and every answer, and images beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Scored
from vistune.evaluate.compare import by_benchmark, compare
from vistune.evaluate.results import Scores, check_comparable, load_scores, load_verdicts
from vistune.formats import read_as
from vistune.pages import check_page, draw_boxes, render, write_page
from vistune.pages.charts import CURVE_SIZE, loss_curve
from vistune.pages.pictures import Picture, place_boxes, store_picture
from vistune.records import ImageRecord

REPORT, IMAGES = "report.html", "report_images"
_LOWER_IS_BETTER = ("chair", "chair_s", "failed", "flip_rate")


@dataclass(frozen=True)
class _Run:
    label: str
    folder: Path
    scores: Scores
    rows: list[dict[str, Any]]

    @cached_property
    def answers(self) -> dict[str, list[Scored]]:
        return by_benchmark(self.rows)


def write_report(
    out: Path, evaluations: Sequence[Path], *, records: Sequence[ImageRecord] = (),
    logs: Mapping[str, Path] | None = None, details: Mapping[str, str] | None = None, title: str = "Evaluation",
    about: str = "", overwrite: bool = False,
) -> Path:  # fmt: skip
    """Write `out/report.html` and, beside it, the images in `out/report_images`; returns the page's path.

    `evaluations` are folders that `evaluate` wrote; the others are compared with the first. `records` are annotated
    images, whose boxes are drawn; `logs` are the log.jsonl of training stages by name, for the curves of their losses.
    `about` is the page's first sentence, `details` are listed below the scores (recipe, seed …). An image that cannot
    be read is left out, which the page says.

    Raises CheckpointError for a folder without scores or verdicts, VistuneError for runs that were scored differently,
    and for another file than such a page at its place, without `overwrite`.
    """
    check_page(out / REPORT, overwrite=overwrite)
    runs = _load(evaluations)
    questions = _questions(runs)
    out.mkdir(parents=True, exist_ok=True)
    images, missing = _images(questions, records, out / IMAGES)
    html = render(
        "evaluation.html",
        scripts=("filters.js", "evaluation.js"),
        title=title,
        about=about,
        labels=[run.label for run in runs],
        sections=list(_sections([run.scores for run in runs])),
        differences=[_differences(runs[0], other, number) for number, other in enumerate(runs[1:], 1)],
        plots=[curve for name, log in (logs or {}).items() if (curve := loss_curve(name, _losses(log)))],
        plot_size=CURVE_SIZE,
        details={run.label: str(run.folder) for run in runs} | dict(details or {}),
        missing=missing,
        choices={name: list(dict.fromkeys(one[name] for one in questions)) for name in ("benchmark", "type")},
        data={"runs": [run.label for run in runs], "folder": IMAGES, "images": images, "questions": questions},
    )
    write_page(out / REPORT, html, overwrite=overwrite)
    return out / REPORT


def _load(folders: Sequence[Path]) -> list[_Run]:
    """The runs; of equal labels with their folders. Raises CheckpointError and VistuneError."""
    scores = [load_scores(folder) for folder in folders]
    for pair in combinations(scores, 2):
        check_comparable(*pair)
    count = Counter(one.label for one in scores)
    return [
        _Run(one.label if count[one.label] == 1 else f"{one.label} ({folder})", folder, one, load_verdicts(folder))
        for one, folder in zip(scores, folders, strict=True)
    ]


def _questions(runs: Sequence[_Run]) -> list[dict[str, Any]]:
    """Every question once, with the answer of each run, None where a run has none; `images` are paths."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, run in enumerate(runs):
        for row in run.rows:
            shared = {key: row[key] for key in ("benchmark", "type", "images", "prompt", "choices", "references")}
            new = {"id": row["question_id"], **shared, "answers": [None] * len(runs)}
            question = found.setdefault((row["benchmark"], row["question_id"]), new)
            answer = {key: row[key] for key in ("text", "value", "answer", "explanation", "parts")}
            if row["prompt"] != question["prompt"]:
                answer["prompt"] = row["prompt"]
            question["answers"][number] = answer
    return list(found.values())


def _images(
    questions: Sequence[dict[str, Any]], records: Sequence[ImageRecord], folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """The images of the questions, each once, and the paths of those that cannot be read.

    In `questions` the paths become places in the first list, None for an image that cannot be read.
    """
    paths = list(dict.fromkeys(path for question in questions for path in question["images"]))
    annotated = {str(record.image): record for record in records}
    folder.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    places: dict[str, int | None] = dict.fromkeys(paths)
    known: dict[tuple[str, str], int] = {}  # the same image may have several paths
    with ThreadPoolExecutor() as pool:
        for path, picture in zip(paths, pool.map(lambda path: store_picture(Path(path), folder), paths), strict=True):
            if picture is None:
                continue
            boxes = _boxes(annotated.get(path), picture)
            places[path] = known.setdefault((picture.file, boxes), len(images))
            if places[path] == len(images):
                images.append(asdict(picture) | {"name": Path(path).name, "boxes": boxes})
    for question in questions:
        question["images"] = [places[path] for path in question["images"]]
    return images, [path for path in paths if places[path] is None]


def _boxes(record: ImageRecord | None, picture: Picture) -> str:
    if record is None or not record.boxes:
        return ""
    size = picture.width, picture.height
    return draw_boxes(place_boxes(record.boxes, *size), *size)


def _sections(scores: Sequence[Scores]) -> Iterator[dict[str, Any]]:
    """A benchmark's part of the table of scores, with a measure of each run, None where it has none.

    `name` is a measure's name up to its `/`, `part` what follows: a type of questions.
    """
    for benchmark in dict.fromkeys(name for one in scores for name in one.benchmarks):
        runs = [one.benchmarks.get(benchmark) for one in scores]
        names = list(dict.fromkeys(name for run in runs if run for name in run.measures))
        groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
        rows: list[dict[str, Any]] = []
        for full in sorted(names, key=lambda name: groups.index(name.partition("/")[0])):
            name, _, part = full.partition("/")
            measures = [run.measures.get(full) if run else None for run in runs]
            rows.append({"name": name, "part": part, "lower": name in _LOWER_IS_BETTER, "measures": measures})
        by_type = [row for row in rows if row["part"] and row["name"] == groups[0]]
        yield {
            "benchmark": benchmark,
            "runs": runs,
            "rows": rows,
            "by_type": by_type if len(by_type) > 1 else [],
            "top": max([1.0, *(one.high or one.value or 0 for row in by_type for one in row["measures"] if one)]),
        }


def _differences(first: _Run, other: _Run, number: int) -> dict[str, Any]:
    """The paired differences of a run, the one at place `number`, to the first; `span` is the plot's half width."""
    rows: list[dict[str, Any]] = []
    for one in compare([first.answers, other.answers]):
        changes = _changes(*(_of_type(run.answers[one.benchmark], one.type) for run in (first, other)))
        rows.append({"benchmark": one.benchmark, "type": one.type, "gap": one.differences[0], "changes": changes})
    bounds = [bound for row in rows for bound in (row["gap"].value, row["gap"].low, row["gap"].high)]
    span = max([0.01, *(abs(bound) for bound in bounds if bound is not None)])
    return {"label": other.label, "number": number, "rows": rows, "span": span}


def _of_type(answers: Sequence[Scored], kind: str | None) -> list[Scored]:
    return [one for one in answers if kind in (None, one.question.type)]


def _changes(first: Sequence[Scored], other: Sequence[Scored]) -> dict[str, int]:
    """How many questions, scored in both runs, the other answers better and worse."""
    before = {one.question.id: one.verdict.value for one in first}
    pairs = [(before.get(one.question.id), one.verdict.value) for one in other]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return {"better": sum(b > a for a, b in known), "worse": sum(b < a for a, b in known)}


def _losses(log: Path) -> list[tuple[float, float]]:
    """(step, loss) of each line of a log.jsonl whose loss is a finite number."""
    points = read_as(log, DataError, lambda row: _point(row.values))
    return [point for point in points if point and math.isfinite(point[1])]


def _point(row: Mapping[str, Any]) -> tuple[float, float] | None:
    step, loss = row.get("step"), row.get("loss")
    return (float(step), float(loss)) if isinstance(step, int) and isinstance(loss, int | float) else None
