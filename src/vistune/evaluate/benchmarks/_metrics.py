"""Metrics that several benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.statistics import Measure, share


def accuracy(scored: Sequence[Scored]) -> Measure:
    """The share of right answers; an answer that cannot be read is not right."""
    return share([one.verdict.value == 1 for one in scored], [one.question.cluster for one in scored])


def only(metric: Metric, condition: Callable[[Scored], bool]) -> Metric:
    """The metric over those that meet the condition."""
    return lambda scored: metric([one for one in scored if condition(one)])
