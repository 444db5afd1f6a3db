"""Models on the same questions: the paired difference of any metric, with its interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.benchmarks._metrics import mean_score
from vistune.evaluate.results import check_comparable, load_scores, load_verdicts, scored
from vistune.evaluate.statistics import (
    NOTHING,
    Measure,
    PairedVariance,
    assumed_variance,
    measured_variance,
    questions_needed,
    t_quantile,
)
from vistune.evaluate.tables import Cell
from vistune.terminal import Terminal

_GROUPS = 100
"""Groups of images that the jackknife leaves out in turn; with fewer images, one image at a time."""


def metric_difference(metric: Metric, a: Sequence[Scored], b: Sequence[Scored]) -> Measure:
    """The metric of `a` minus that of `b` on the questions that both answered; `n` is their number.

    The interval is that of the delete-a-group jackknife over images (Kott 2001) with Student's t: it holds for shares,
    means and ratios alike. Questions are paired, so that only the difference varies.
    """
    others = {one.question.id: one for one in b}
    pairs = [(one, others[one.question.id]) for one in a if one.question.id in others]
    clusters = list(dict.fromkeys(one.question.cluster for one, _ in pairs))
    number = {cluster: index % _GROUPS for index, cluster in enumerate(clusters)}
    count = min(_GROUPS, len(clusters))
    value = _gap(metric, pairs)
    if value is None or count < 2:
        return NOTHING if value is None else Measure(value, None, None, len(pairs))
    left_out = [
        _gap(metric, [pair for pair in pairs if number[pair[0].question.cluster] != group]) for group in range(count)
    ]
    gaps = np.array([gap for gap in left_out if gap is not None])
    variance = (count - 1) / count * ((gaps - gaps.mean()) ** 2).sum()
    half = t_quantile(0.975, count - 1) * float(np.sqrt(variance))
    return Measure(value, value - half, value + half, len(pairs))


def _gap(metric: Metric, pairs: Sequence[tuple[Scored, Scored]]) -> float | None:
    a, b = (metric([pair[side] for pair in pairs]).value for side in (0, 1))
    return None if a is None or b is None else a - b


class Compared(NamedTuple):
    """The mean score of each run on a benchmark, or one `type` of its questions; paired differences to the first."""

    benchmark: str
    type: str | None
    scores: list[Measure]
    differences: list[Measure]


def by_benchmark(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Scored]]:
    """The scored questions of verdicts.jsonl by benchmark."""
    found: dict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        found[row["benchmark"]].append(scored(row))
    return found


def compare(runs: Sequence[Mapping[str, Sequence[Scored]]]) -> list[Compared]:
    """The benchmarks that all runs have, each followed by its types if there are several."""
    rows = []
    for benchmark in [name for name in runs[0] if all(name in run for run in runs)]:
        types = dict.fromkeys(one.question.type for one in runs[0][benchmark])
        for kind in [None, *types] if len(types) > 1 else [None]:
            parts = [[one for one in run[benchmark] if kind in (None, one.question.type)] for run in runs]
            differences = [metric_difference(mean_score, part, parts[0]) for part in parts[1:]]
            rows.append(Compared(benchmark, kind, [mean_score(part) for part in parts], differences))
    return rows


def print_comparison(folders: Sequence[Path], console: Console | None = None) -> None:
    """Print the mean score of each evaluation and its paired difference to the first, by benchmark and type.

    Raises CheckpointError for a folder without scores or verdicts, VistuneError if the evaluations have other judges.
    """
    console = console or Terminal()
    scores = [load_scores(folder) for folder in folders]
    for other in scores[1:]:
        check_comparable(scores[0], other)
    rows = compare([by_benchmark(load_verdicts(folder)) for folder in folders])
    if not rows:
        console.print("The evaluations have no benchmark in common: there is nothing to compare.")
        return
    table = Table("", title="Mean score of the answers, % (95 % interval); differences are paired by question")
    for number, (one, folder) in enumerate(zip(scores, folders, strict=True)):
        table.add_column(f"{one.label} ({folder})", justify="right")
        if number:
            table.add_column("difference to the first", justify="right")
    for row in rows:
        cells = [str(Cell.percent(row.scores[0]))]
        for score, gap in zip(row.scores[1:], row.differences, strict=True):
            cells += [str(Cell.percent(score)), f"{Cell.percent(gap)}{' *' * gap.excludes_zero}"]
        table.add_row(row.benchmark if row.type is None else f"  {row.type}", *cells)
    console.print(table)


def print_power(folders: Sequence[Path], gap: float, console: Console | None = None) -> None:
    """Print how many questions show that a model is better by `gap` (0.02 = two points) at 80 % power, by benchmark.

    The variance is that of the differences between the first two evaluations. With one evaluation it is assumed, for
    a second model whose outcomes correlate by 0.5 with it. Raises VistuneError where there is no variance.
    """
    console = console or Terminal()
    runs = [by_benchmark(load_verdicts(folder)) for folder in folders[:2]]
    table = Table("", "questions", "images", "variance", title=f"For a difference of {100 * gap:g} points, power 80 %")
    for benchmark in [name for name in runs[0] if all(name in run for run in runs)]:
        variance = _paired_variance([_known(run[benchmark]) for run in runs], gap)
        needed = questions_needed(gap, variance)
        source = "measured" if len(runs) > 1 else "assumed"
        table.add_row(benchmark, f"{needed.questions:,}", f"{needed.images:,}", f"{variance.variance:.3f} ({source})")
    console.print(table)


def _known(run: Sequence[Scored]) -> dict[str, Scored]:
    return {one.question.id: one for one in run if one.verdict.value is not None}


def _paired_variance(runs: Sequence[Mapping[str, Scored]], gap: float) -> PairedVariance:
    both = [name for name in runs[0] if all(name in run for run in runs)]
    values = [[float(run[name].verdict.value or 0) for name in both] for run in runs]
    clusters = [runs[0][name].question.cluster for name in both]
    if len(runs) > 1:
        return measured_variance(values[0], values[1], clusters)
    accuracy = sum(values[0]) / max(1, len(both))
    sign = 1 if accuracy + gap < 1 else -1  # near 100 % the second model can only be worse
    return assumed_variance(accuracy, sign * gap, per_image=len(both) / max(1, len(set(clusters))))
