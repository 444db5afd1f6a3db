"""The quality report as one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vistune.generate.quality.counters import Histogram
from vistune.generate.quality.references import load_references
from vistune.pages import environment

if TYPE_CHECKING:
    from vistune.generate.report import Report

WIDTH, HEIGHT = 360, 128
_BOTTOM = 20
_BARS = 24


def render(report: Report) -> str:
    """The page; the same for the same replies."""
    figures, references = report.to_dict(), load_references()
    examples = {name: sample.items() for name, sample in report.examples.items()}
    charts = {
        name: {
            part: chart(getattr(kind, part), _reference(references, name, part))
            for part in ("question_words", "words", "turns")
        }
        for name, kind in report.kinds.items()
        if kind.accepted
    }
    page = environment("vistune.generate.quality").get_template("quality.html")
    return page.render(
        report=figures, charts=charts, references=references, examples=examples, size=(WIDTH, HEIGHT),
    )  # fmt: skip


def _reference(references: Mapping[str, Any], kind: str, part: str) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = references["kinds"].get(kind, {}).get(part)
    return found


def chart(histogram: Histogram, reference: Mapping[str, float] | None) -> dict[str, Any]:
    """A histogram as bars (x, y, width, height) of a picture; `reference` becomes its p10 to p90 and its mean, as x.

    The axis ends at the 99th percentile or the reference's, so that one long answer does not hide the others.
    """
    most = max(histogram.quantile(0.99), math.ceil(reference["max"]) if reference else 0, 1)
    width = max(1, math.ceil((most + 1) / _BARS))
    edges = list(range(0, most + width + 1, width))
    counts = [sum(histogram.bins[value] for value in range(*span)) for span in pairwise(edges)]
    top = max(*counts, 1) if len(counts) > 1 else max(counts[0], 1)
    unit = WIDTH / len(counts)

    def x(value: float) -> float:
        return round(min(value + 0.5, edges[-1]) / width * unit, 1)

    bars = []
    for place, n in enumerate(counts):
        height = round((HEIGHT - _BOTTOM) * n / top, 1)
        span = str(edges[place]) if width == 1 else f"{edges[place]} to {edges[place + 1] - 1}"
        bars.append(
            (round(place * unit + 0.5, 1), HEIGHT - _BOTTOM - height, round(unit - 1, 1), height, f"{span}: {n:,}")
        )
    band = (x(reference["p10"]), x(reference["p90"])) if reference else None
    every = max(1, len(counts) // 4)
    ticks = [(round((place + 0.5) * unit, 1), edges[place]) for place in range(0, len(counts), every)]
    return {
        "bars": bars, "ticks": ticks, "band": band, "mean": x(histogram.to_dict()["mean"]),
        "reference": {**reference, "x": x(reference["mean"])} if reference else None, "figures": histogram.to_dict(),
    }  # fmt: skip
