"""Scores and their uncertainty: 95 % confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959964  # the normal distribution's 97.5 % quantile
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Measure:
    """A score out of `n` cases with its 95 % interval; all None when there was nothing to measure."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def share(outcomes: Iterable[bool], groups: Iterable[str] | None = None) -> Measure:  # noqa: ARG001
    """The share that is true, with Wilson's score interval (Wilson 1927), which holds near 0 and 1 as well."""
    values = list(outcomes)
    n = len(values)
    if not n:
        return Measure(None, None, None, 0)
    p = sum(values) / n
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    return Measure(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)), n)


def ratio(parts: Sequence[tuple[float, float]]) -> Measure:
    """The sum of numerators over the sum of denominators, one pair an image, e.g. (wrong, all) mentions.

    The interval is a percentile bootstrap over the images, since the mentions of one image are not independent.
    `n` is the sum of the denominators.
    """
    table = np.asarray(parts, dtype=float).reshape(-1, 2)  # (images, 2)
    total = table[:, 1].sum()
    if not total:
        return Measure(None, None, None, 0)
    even = np.full(len(table), 1 / len(table))
    times = np.random.default_rng(0).multinomial(len(table), even, size=_RESAMPLES)  # (resamples, images)
    drawn = times @ table  # the sums of each resample, (resamples, 2)
    drawn = drawn[drawn[:, 1] != 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return Measure(float(table[:, 0].sum() / total), float(low), float(high), round(total))


def difference(a: Sequence[bool], b: Sequence[bool], groups: Sequence[str]) -> Measure:
    """The accuracy of `a` minus that of `b` on the same questions, in order; `groups` names each question's image.

    Paired: the bootstrap resamples images and keeps both answers to a question together.
    """
    sums: dict[str, list[float]] = {}
    for right, other, group in zip(a, b, groups, strict=True):
        entry = sums.setdefault(group, [0.0, 0.0])
        entry[0] += right - other
        entry[1] += 1
    return ratio([(gap, n) for gap, n in sums.values()])


def mean(values: Sequence[float], groups: Sequence[str]) -> Measure:
    """The mean of values; those of one group (questions about one image) are not independent."""
    sums: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        entry = sums.setdefault(group, [0.0, 0.0])
        entry[0] += value
        entry[1] += 1
    return ratio([(total, n) for total, n in sums.values()])
