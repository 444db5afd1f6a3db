"""How often the 95 % intervals of evaluate/statistics.py hold the truth, and how often two equal models differ.

Shares: right or wrong answers to several questions about each image, with a beta-binomial correlation within images.
Ratios: a judge's scores of a model and of a reference, with effects of image and question, as in LLaVA-Bench.
Beside ours: the percentile bootstrap over images, and Wilson's interval as if all answers were independent. The two
equal models share half of the images' difficulty and half of the questions' luck.

    python benchmarks/eval_intervals.py --sets 2000 --seeds 0 1 2 --json out.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from vistune.evaluate.statistics import Measure, difference, ratio, ratio_difference, share

Array = NDArray[Any]
RESAMPLES, BLOCK = 1000, 20


@dataclass(frozen=True)
class Design:
    """A benchmark of `images` with `questions` each; `p` is the share of right answers, None for a judge's scores."""

    images: int
    questions: int
    p: float | None = None
    correlation: float = 0.0

    def __str__(self) -> str:
        size = f"{self.images} x {self.questions}"
        return f"ratio, {size}" if self.p is None else f"share, {size}, p {self.p}, correlation {self.correlation}"

    def draw(self, rng: Generator, sets: int) -> Array:
        """Pairs (points, points possible) of two equal models, (sets, 2 models, images, questions, 2)."""
        return self._scores(rng, sets) if self.p is None else self._outcomes(rng, sets, self.p)

    def _outcomes(self, rng: Generator, sets: int, p: float) -> Array:
        size, scale = (sets, 2, self.images, self.questions), 1 / self.correlation - 1
        chances = rng.beta(p * scale, (1 - p) * scale, (*size[:3], 1))
        luck = rng.random(size)
        for both in (chances, luck):
            common = rng.random(both[:, 0].shape) < 0.5
            both[:, 1][common] = both[:, 0][common]
        return np.stack([luck < chances, np.ones(size)], axis=-1).astype(float)

    def _scores(self, rng: Generator, sets: int) -> Array:
        """Scores from 1 to 10; the reference's are about 8.5, the model's 7."""
        image = rng.normal(0, 0.7, (sets, 1, self.images, 1, 1))
        question = rng.normal(0, 0.7, (sets, 1, self.images, self.questions, 1))
        model = rng.normal(0, 0.7, (sets, 2, self.images, 1, 2))
        noise = rng.normal(0, 1.2, (sets, 2, self.images, self.questions, 2))
        return np.clip(np.round(np.array([7.0, 8.5]) + image + question + model + noise), 1, 10)

    def truth(self) -> float:
        """The true share or ratio."""
        if self.p is not None:
            return self.p
        points, possible = self._scores(default_rng(12345), 50_000).mean(axis=(0, 1, 2, 3))
        return float(points / possible)


DESIGNS = (
    Design(24, 3),
    Design(30, 3),
    Design(500, 6, 0.87, 0.1),
    Design(20, 6, 0.87, 0.2),
    Design(20, 6, 0.97, 0.2),
    Design(10, 9, 0.6, 0.2),
)

DIFFICULT = (Design(40, 6, 0.97, 0.2), Design(100, 6, 0.97, 0.2), Design(20, 6, 0.87, 0.5))
"""Designs where the intervals are expected to be worse."""


def holds(measures: Iterable[Measure], truth: float) -> float:
    """The share of intervals that hold the truth; one that is missing does not."""
    return float(np.mean([one.low is not None and one.low <= truth <= (one.high or 0) for one in measures]))


def bootstrap(points: Array, rng: Generator) -> Iterator[tuple[Array, Array]]:
    """The percentile intervals (lows, highs) of blocks of data sets; `points` are (sets, images, questions, 2)."""
    sums = points.sum(axis=2)  # (sets, images, 2)
    images = sums.shape[1]
    for start in range(0, len(sums), BLOCK):
        times = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(float)
        drawn = times @ sums[start : start + BLOCK]  # (block, resamples, 2)
        low, high = np.quantile(drawn[..., 0] / drawn[..., 1], (0.025, 0.975), axis=1)
        yield low, high


def measure(design: Design, sets: int, seed: int) -> dict[str, float]:
    """Coverages and false alarms, as shares of the data sets."""
    rng = default_rng(seed)
    pairs = design.draw(rng, sets)
    truth = design.truth()
    groups = np.repeat(np.arange(design.images), design.questions).tolist()
    flat = pairs.reshape(sets, 2, -1, 2)
    drawn = [(low <= truth) & (truth <= high) for low, high in bootstrap(pairs[:, 0], rng)]
    found = {"bootstrap": float(np.mean(np.concatenate(drawn)))}
    if design.p is None:
        found["ours"] = holds((ratio(one[0], groups) for one in flat), truth)
        compare: Callable[..., Measure] = ratio_difference
    else:
        flat = flat[..., 0]
        found["ours"] = holds((share(one[0], groups) for one in flat), truth)
        found["wilson"] = holds((share(one[0]) for one in flat), truth)
        compare = difference
    found["alarms"] = float(np.mean([compare(a, b, groups).excludes_zero for a, b in flat]))
    found["alarms_unclustered"] = float(np.mean([compare(a, b).excludes_zero for a, b in flat]))
    return found


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: the mean over the seeds in per cent, with the lowest and highest where there are several."""
    columns = {
        "ours": "ours", "bootstrap": "percentile bootstrap", "wilson": "Wilson, independent",
        "alarms": "false alarms", "alarms_unclustered": "false alarms, independent",
    }  # fmt: skip
    lines = ["| design | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in results.items():
        cells = [_cell([100 * one[column] for one in found if column in one]) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--difficult", action="store_true", help="the designs where intervals are worse")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    designs = DIFFICULT if arguments.difficult else DESIGNS
    start = time.perf_counter()
    results = {str(design): [measure(design, arguments.sets, seed) for seed in arguments.seeds] for design in designs}
    print(table(results))
    print(f"{arguments.sets} data sets for each design and seed; {time.perf_counter() - start:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
