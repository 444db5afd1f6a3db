"""Two models on the same questions: the paired difference of any metric, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.statistics import NOTHING, Measure, t_quantile

_GROUPS = 100
"""Groups of images that the jackknife leaves out in turn; with fewer images, one image at a time."""


def metric_difference(metric: Metric, a: Sequence[Scored], b: Sequence[Scored]) -> Measure:
    """The metric of `a` minus that of `b` on the questions that both answered; `n` is their number.

    The interval is that of the delete-a-group jackknife over images (Kott 2001) with Student's t: it holds for shares,
    means and ratios alike, and for question that are paired, as only the difference varies.
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
