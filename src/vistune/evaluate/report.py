"""The report of an evaluation: one HTML file with everything in it, readable without a network or scripts."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from vistune.errors import DataError
from vistune.evaluate.results import Scores, load_scores, load_verdicts
from vistune.evaluate.statistics import Measure, difference
from vistune.pages import render
from vistune.pages.charts import CURVE_SIZE, loss_curve
from vistune.pages.pictures import embed, place_boxes
from vistune.records import ImageRecord
from vistune.storage import atomic_text


def write_report(
    out: Path,
    *,
    evaluations: Sequence[Path],
    records: Sequence[ImageRecord],
    logs: Mapping[str, Path],
    details: Mapping[str, str],
    title: str = "vistune",
    about: str = "",
    images: int = 12,
) -> Path:
    """Write `out/report.html`; returns its path.

    `evaluations` are folders that `evaluate` wrote: first that of the model in question, then its baselines on the
    same questions. `logs` are the stages' log.jsonl by stage. `about` is the page's first sentence; `details` are
    listed at its end (recipe, seed …). Up to `images` of the evaluated images are shown, half of them with a wrong
    answer where there are enough.

    Raises CheckpointError for a folder without scores, DataError for an image that cannot be read.
    """
    scores = [load_scores(folder) for folder in evaluations]
    answers = [[_shown(row) for row in load_verdicts(folder)] for folder in evaluations]
    html = render(
        "evaluation.html",
        title=title,
        about=about,
        scores=scores,
        gaps=[_gap(answers[0], other, column.label) for other, column in zip(answers[1:], scores[1:], strict=True)],
        sections=_sections(scores[0]),
        plots=[curve for name, log in logs.items() if (curve := loss_curve(name, _losses(log)))],
        plot_size=CURVE_SIZE,
        cards=_cards(answers, [column.label for column in scores], records, images),
        details=details,
    )
    out.mkdir(parents=True, exist_ok=True)
    with atomic_text(out / "report.html") as file:
        file.write(html)
    return out / "report.html"


_SECTIONS = {
    "By wording": {"as in training": "seen", "never in training": "unseen"},
    "Detailed descriptions": {
        "hallucinated mentions (CHAIR_i)": "chair",
        "descriptions with one (CHAIR_s)": "chair_s",
        "objects mentioned (recall)": "recall",
    },
}


def _sections(scores: Scores) -> dict[str, dict[str, str]]:
    """The sections of the table of scores: for each the titles of its rows and the names of their measures."""
    exact = {"all questions": "accuracy"} | {kind: f"accuracy/{kind}" for kind in scores.by_type}
    return {"Exact answers": exact} | _SECTIONS


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of verdicts.jsonl as the page's template reads it."""
    correct = None if row["value"] is None else row["value"] == 1
    more = {"correct": correct, "reason": row["explanation"], "reference": ", ".join(row["references"])}
    return row | more | {"image": row["images"][0], "seen": row["details"].get("wording") != "unseen"}


def _losses(log: Path) -> list[tuple[float, float]]:
    """(step, loss) of each line of a log.jsonl whose loss is a finite number."""
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
    points = [(float(row["step"]), row.get("loss")) for row in rows]
    return [(step, float(loss)) for step, loss in points if isinstance(loss, int | float) and math.isfinite(loss)]


def _gap(mine: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], label: str) -> tuple[str, Measure]:
    """The accuracy of the first model minus that of another, on the exact-answer questions that both answered."""
    theirs = {row["question_id"]: bool(row["correct"]) for row in other}
    both = [row for row in mine if row["benchmark"] == "scene_qa" and row["question_id"] in theirs]
    right, others = [bool(row["correct"]) for row in both], [theirs[row["question_id"]] for row in both]
    return label, difference(right, others, [row["image"] for row in both])


def _cards(
    answers: Sequence[Sequence[dict[str, Any]]], labels: Sequence[str], records: Sequence[ImageRecord], limit: int
) -> list[dict[str, Any]]:
    """The gallery: images with a wrong answer and images without, in turn."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in answers[0]:
        by_image[row["image"]].append(row)
    others = [
        (label, {row["question_id"]: row for row in rows}) for label, rows in zip(labels[1:], answers[1:], strict=True)
    ]
    answered = [record for record in records if str(record.image) in by_image]
    flawed = [record for record in answered if any(row["correct"] is False for row in by_image[str(record.image)])]
    fine = [record for record in answered if record not in flawed]
    wrong = _spread(flawed, max(limit // 2, limit - len(fine)))
    mixed = chain.from_iterable(zip_longest(wrong, _spread(fine, limit - len(wrong))))
    return [_card(record, by_image[str(record.image)], others) for record in mixed if record]


def _spread(records: Sequence[ImageRecord], n: int) -> list[ImageRecord]:
    """`n` of the records, evenly spread."""
    n = min(n, len(records))
    return [records[index * len(records) // n] for index in range(n)]


def _card(
    record: ImageRecord, rows: Sequence[dict[str, Any]], others: Sequence[tuple[str, Mapping[str, dict[str, Any]]]]
) -> dict[str, Any]:
    answered = [
        row | {"others": [(label, by_id[row["question_id"]]) for label, by_id in others if row["question_id"] in by_id]}
        for row in rows
    ]
    exact = [row for row in answered if row["benchmark"] == "scene_qa"]
    return {
        "id": record.id,
        "image": _embedded(record.image),
        "width": record.width,
        "height": record.height,
        "boxes": place_boxes(record.boxes, record.width, record.height),
        "exact": exact,
        "right": sum(bool(row["correct"]) for row in exact),
        "described": [row for row in answered if row["benchmark"] == "chair"],
    }


def _embedded(path: Path) -> str:
    """The image as a data URI."""
    try:
        with Image.open(path) as image:
            return embed(image.convert("RGB"))
    except OSError as error:
        raise DataError("the image cannot be read", where=str(path), fix="restore it or evaluate again") from error
