"""Metrics that several benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.statistics import NOTHING, Measure, mean, share


def accuracy(scored: Sequence[Scored]) -> Measure:
    """The share of right answers; an answer that cannot be read is not right."""
    return share([one.verdict.value == 1 for one in scored], [one.question.cluster for one in scored])


def mean_score(scored: Sequence[Scored]) -> Measure:
    """The mean of the scored answers' values, which are between 0 and 1."""
    known = [(one.verdict.value, one.question.cluster) for one in scored if one.verdict.value is not None]
    return share([value for value, _ in known], [cluster for _, cluster in known])


def only(metric: Metric, condition: Callable[[Scored], bool]) -> Metric:
    """The metric over those that meet the condition."""
    return lambda scored: metric([one for one in scored if condition(one)])


def of_type(name: str) -> Callable[[Scored], bool]:
    """The condition that a question is of that type."""
    return lambda one: one.question.type == name


def says_yes(one: Scored) -> bool:
    """Whether the answer was read as yes."""
    return one.verdict.answer == "yes"


def expects_yes(one: Scored) -> bool:
    """Whether yes is right."""
    return one.question.references[0] == "yes"


precision = only(accuracy, says_yes)
"""The share of the answers "yes" that are right."""
recall = only(accuracy, expects_yes)
"""The share of the questions with the answer "yes" that get it; an answer that cannot be read is no yes."""


def yes_ratio(scored: Sequence[Scored]) -> Measure:
    """The share of the answers that are "yes"; of the answers, not of the truth."""
    return share(map(says_yes, scored), [one.question.cluster for one in scored])


def f1(scored: Sequence[Scored]) -> Measure:
    """F1 of the answer "yes", as the mean over the types of questions."""
    types = dict.fromkeys(one.question.type for one in scored)
    strata = [[_f1_part(one) for one in scored if one.question.type == kind] for kind in types]
    return sum_of_ratios(strata, weight=1 / len(types)) if types else NOTHING


def _f1_part(one: Scored) -> tuple[float, float, str]:
    """F1 is twice the right "yes" over all "yes", those of the answers and those of the truth."""
    said, expected = says_yes(one), expects_yes(one)
    return 2.0 * (said and expected), float(said + expected), one.question.cluster


def sum_of_ratios(strata: Iterable[Sequence[tuple[float, float, Hashable]]], weight: float = 1.0) -> Measure:
    """The sum over strata of `weight` times a ratio, each case with its numerator, denominator and cluster.

    The interval is the delta method's, as that of `ratio`; a cluster may have cases in several strata. A stratum
    without a case of its denominator adds nothing; NOTHING if there is no other.
    """
    value, influence, clusters = 0.0, list[float](), list[Hashable]()
    for cases in strata:
        if not (whole := sum(bottom for _, bottom, _ in cases)):
            continue
        ratio = sum(top for top, _, _ in cases) / whole
        value += weight * ratio
        influence += [weight * (top - ratio * bottom) / whole for top, bottom, _ in cases]
        clusters += [cluster for _, _, cluster in cases]
    n = len(influence)
    return replace(mean([value + n * one for one in influence], clusters), total=None)
