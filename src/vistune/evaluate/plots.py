"""Loss curves as the coordinates of a small picture; the report's template draws them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 46, 12, 26
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class LossPlot:
    """A stage's loss over its steps; `raw` and `smooth` are SVG point lists in a `WIDTH` x `HEIGHT` picture."""

    name: str
    steps: int
    raw: str
    smooth: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    end: tuple[float, float]
    final: float


def loss_plot(name: str, log: Path) -> LossPlot | None:
    """The plot of a stage's log.jsonl (`step` and `loss` a line); None if it holds no two steps."""
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
    points = [(float(row["step"]), float(row["loss"])) for row in rows if math.isfinite(row.get("loss", math.nan))]
    if len(points) < 2:
        return None
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    smooth = _smoothed(losses)
    x_ticks, y_ticks = _ticks(0, steps[-1], 5), _ticks(0, max(max(smooth), sorted(losses)[int(0.98 * len(losses))]), 4)
    top = max(y_ticks[-1], *smooth) or 1.0

    def x(step: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * step / steps[-1], 1)

    def y(loss: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(loss, top) / top, 1)

    def line(values: Sequence[float]) -> str:
        every = math.ceil(len(values) / _MOST_POINTS)
        kept = sorted({*range(0, len(values), every), len(values) - 1})
        return " ".join(f"{x(steps[i])},{y(values[i])}" for i in kept)

    return LossPlot(
        name,
        round(steps[-1]),
        line(losses),
        line(smooth),
        tuple((x(step), f"{step:,.0f}") for step in x_ticks),
        tuple((y(loss), f"{loss:g}") for loss in y_ticks),
        (x(steps[-1]), y(smooth[-1])),
        smooth[-1],
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential moving average over about an eightieth of the run, unbiased at its start."""
    decay = 1 - 1 / max(2.0, len(values) / 80)
    total = weight = 0.0
    smooth = []
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        smooth.append(total / weight)
    return smooth


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, about so many: 1, 2 or 5 times a power of ten apart."""
    rough = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [low + step * index for index in range(int((high - low) / step + 1e-9) + 1)]
