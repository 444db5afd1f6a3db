"""Metrics that several benchmarks share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.statistics import NOTHING, Measure, mean, share


def accuracy(scored: Sequence[Scored]) -> Measure:
    """The share of right answers; an answer that cannot be read is not right."""
    return share([one.verdict.value == 1 for one in scored], [one.question.cluster for one in scored])


def mean_score(scored: Sequence[Scored]) -> Measure:
    """The mean of the scored answers' values; of values between 0 and 1 a share, with its interval."""
    known = [(one.verdict.value, one.question.cluster) for one in scored if one.verdict.value is not None]
    average = share if all(0 <= value <= 1 for value, _ in known) else mean
    return average([value for value, _ in known], [cluster for _, cluster in known])


def only(metric: Metric, condition: Callable[[Scored], bool]) -> Metric:
    """The metric over those that meet the condition."""
    return lambda scored: metric([one for one in scored if condition(one)])


def of_type(name: str) -> Callable[[Scored], bool]:
    """The condition that a question is of that type."""
    return lambda one: one.question.type == name


def says(answer: str) -> Callable[[Scored], bool]:
    """The condition that the answer was read as `answer`; `only(accuracy, says("yes"))` is the precision of "yes"."""
    return lambda one: one.verdict.answer == answer


def expects(answer: str) -> Callable[[Scored], bool]:
    """The condition that `answer` is right; `only(accuracy, expects("yes"))` is the recall of "yes"."""
    return lambda one: one.question.references[0] == answer


def ratio_of(answer: str) -> Metric:
    """The share of the answers that were read as `answer`; of the answers, not of the truth."""
    said = says(answer)
    return lambda scored: share(map(said, scored), [one.question.cluster for one in scored])


def f1(answer: str, *, mean_of_types: bool = False) -> Metric:
    """F1 of an answer over all questions, or the mean of its F1 over those of each type."""
    said, expected = says(answer), expects(answer)

    def part(one: Scored) -> tuple[float, float, str]:
        # twice those said and right over all those said and all that are right
        return 2.0 * (said(one) and expected(one)), float(said(one) + expected(one)), one.question.cluster

    def metric(scored: Sequence[Scored]) -> Measure:
        strata: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for one in scored:
            strata[one.question.type if mean_of_types else ""].append(part(one))
        return sum_of_ratios(strata.values(), weight=1 / len(strata)) if strata else NOTHING

    return metric


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
