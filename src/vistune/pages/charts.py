"""Charts as coordinates of a small SVG picture; the templates draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

BAR_SIZE = (360, 128)
"""Width and height of a bar chart."""
_BAR_BOTTOM = 20
_BARS = 24
CURVE_SIZE = (520, 230)
"""Width and height of a curve."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 46, 12, 26
_MAX_POINTS = 400

Point = tuple[float, float]


def bar_chart(
    bins: Mapping[int, int], figures: Mapping[str, float], end: int, reference: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The chart of a histogram of whole numbers from 0 up: `bins` counts each, `figures` has its `mean`.

    `bars` are (x, y, width, height, label), `ticks` (x, number), `band` the reference's p10 and p90 as x.
    The axis ends at `end` (such as the 99th percentile, so that one large number does not hide the others) or at the
    reference's `max`, whichever is larger.
    """
    width, height = BAR_SIZE
    largest = max(end, math.ceil(reference["max"]) if reference else 0, 1)
    step = max(1, math.ceil((largest + 1) / _BARS))
    edges = list(range(0, largest + step + 1, step))
    counts = [sum(bins.get(value, 0) for value in range(*span)) for span in pairwise(edges)]
    unit = width / len(counts)

    def x(value: float) -> float:
        return round(min(value + 0.5, edges[-1]) / step * unit, 1)

    bars = []
    for index, n in enumerate(counts):
        tall = round((height - _BAR_BOTTOM) * n / max(*counts, 1), 1)
        span = str(edges[index]) if step == 1 else f"{edges[index]} to {edges[index + 1] - 1}"
        bars.append(
            (round(index * unit + 0.5, 1), height - _BAR_BOTTOM - tall, round(unit - 1, 1), tall, f"{span}: {n:,}")
        )
    every = max(1, len(counts) // 4)
    return {
        "bars": bars,
        "ticks": [(round((index + 0.5) * unit, 1), edges[index]) for index in range(0, len(counts), every)],
        "band": (x(reference["p10"]), x(reference["p90"])) if reference else None,
        "mean": x(figures["mean"]),
        "reference": {**reference, "x": x(reference["mean"])} if reference else None,
        "figures": figures,
    }


def loss_curve(name: str, points: Sequence[Point]) -> dict[str, Any] | None:
    """The curve of a training's (step, loss); None for fewer than two points.

    `raw` and `smooth` are SVG point lists, ticks (place, label); `smooth` ends at the point `end`, the loss `final`.
    """
    if len(points) < 2:
        return None
    width, height = CURVE_SIZE
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    smooth = _smoothed(losses)
    x_ticks, y_ticks = _ticks(0, steps[-1], 5), _ticks(0, max(max(smooth), sorted(losses)[int(0.98 * len(losses))]), 4)
    top = max(y_ticks[-1], *smooth) or 1.0

    def x(step: float) -> float:
        return round(_LEFT + (width - _LEFT - _RIGHT) * step / steps[-1], 1)

    def y(loss: float) -> float:
        return round(height - _BOTTOM - (height - _TOP - _BOTTOM) * min(loss, top) / top, 1)

    def line(values: Sequence[float]) -> str:
        every = math.ceil(len(values) / _MAX_POINTS)
        thinned = sorted({*range(0, len(values), every), len(values) - 1})
        return " ".join(f"{x(steps[i])},{y(values[i])}" for i in thinned)

    return {
        "name": name,
        "steps": round(steps[-1]),
        "raw": line(losses),
        "smooth": line(smooth),
        "x_ticks": [(x(step), f"{step:,.0f}") for step in x_ticks],
        "y_ticks": [(y(loss), f"{loss:g}") for loss in y_ticks],
        "end": (x(steps[-1]), y(smooth[-1])),
        "final": smooth[-1],
    }


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential moving average over about an eightieth of the run, unbiased at its start."""
    decay = 1 - 1 / max(2.0, len(values) / 80)
    total = weight = 0.0
    smooth = []
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        smooth.append(total / weight)
    return smooth


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`: 1, 2 or 5 times a power of ten apart."""
    rough = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [low + step * index for index in range(int((high - low) / step + 1e-9) + 1)]
