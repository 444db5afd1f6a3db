"""Scores with 95 % intervals, paired differences and what they need; docs/concepts/statistics.md explains the choices.

Questions about one image are no independent cases. Every function takes `groups`, the cluster (usually the image) of
each case; without it every case is its own cluster.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vistune.errors import VistuneError

Groups = Iterable[Hashable] | None
Part = tuple[float, float]
"""A numerator and its denominator, such as the hallucinated and all mentions of one answer."""
_Floats = NDArray[np.float64]
_Clusters = NDArray[np.intp]
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Measure:
    """A score of `n` cases with its 95 % interval; `total` is the sum of the values, the right answers of a share.

    All are None and n is 0 where there was nothing to measure. `low` and `high` alone are None where one cluster
    gives a mean, ratio or difference no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    total: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval: of a difference, whether it is significant at 5 %."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


NOTHING = Measure(None, None, None, 0)


def share(outcomes: Iterable[float], groups: Groups = None) -> Measure:
    """The share of `outcomes` that is true; values between 0 and 1, such as VQA's accuracies, count in part.

    Wilson's score interval (Wilson 1927), which holds near 0 and 1 as well, see `share_of_counts`.
    """
    return share_of_counts([(value, 1) for value in outcomes], groups)


def share_of_counts(parts: Iterable[Part], groups: Groups = None) -> Measure:
    """The share of cases that are right, from pairs of counts (right, all), e.g. the mentions of each answer.

    Wilson's interval with the effective sample size n/deff: the design effect deff is the variance between clusters
    over that of as many independent cases, at least 1. As it is estimated, Student's t with C-1 degrees of freedom
    replaces the normal quantile; with one case in each cluster nothing is estimated, and the interval is Wilson's
    own. One cluster of several cases says nothing of other clusters: the interval is 0 to 1.
    """
    right, of, clusters = _columns(parts, groups)
    n = of.sum()
    if not n:
        return NOTHING
    p, count = right.sum() / n, clusters.max() + 1
    deff, critical, low, high = 1.0, _Z, 0.0, 1.0
    if 1 < count < n:
        independent = p * (1 - p) / (n - 1)
        deff = max(1.0, _variance((right - p * of) / n, clusters) / independent) if independent else 1.0
        critical = t_quantile(0.975, count - 1)
    if count > 1 or n == 1:
        size = n / deff
        middle = p + critical**2 / (2 * size)
        half = critical * math.sqrt(p * (1 - p) / size + critical**2 / (4 * size**2))
        low, high = ((middle + sign * half) / (1 + critical**2 / size) for sign in (-1, 1))
    return Measure(float(p), float(min(p, max(0, low))), float(max(p, min(1, high))), round(n), _plain(right.sum()))


def mean(values: Iterable[float], groups: Groups = None) -> Measure:
    """The mean of scores on any scale, with the interval of `ratio`; for right and wrong answers use `share`."""
    return ratio([(value, 1) for value in values], groups)


def ratio(parts: Iterable[Part], groups: Groups = None) -> Measure:
    """The sum of numerators over that of denominators; `n` is the sum of denominators.

    The interval is the delta method's with Student's t and C-1 degrees of freedom over C clusters. Pairs (0, 0) hold
    no case and are left out.
    """
    top, bottom, clusters = _columns(parts, groups)
    n = bottom.sum()
    if not n:
        return NOTHING
    value = top.sum() / n
    return _delta(value, (top - value * bottom) / n, clusters, round(n), top.sum())


def difference(a: Iterable[float], b: Iterable[float], groups: Groups = None) -> Measure:
    """The mean of `a` minus that of `b` on the same questions, in order; outcomes or scores.

    Paired: only the differences within questions vary. `excludes_zero` is the test of no difference. Where all
    clusters differ by the same amount the interval has no width: that is no proof with few clusters.
    """
    return mean([float(x) - float(y) for x, y in zip(a, b, strict=True)], groups)


def ratio_difference(a: Iterable[Part], b: Iterable[Part], groups: Groups = None) -> Measure:
    """The ratio of `a` minus that of `b` on the same questions, such as the relative scores of two models; paired.

    `n` is the number of questions.
    """
    table = np.array([(*x, *y) for x, y in zip(a, b, strict=True)], dtype=float).reshape(-1, 4)
    if not (table[:, 1].sum() and table[:, 3].sum()):
        return NOTHING
    values, influences = [], []
    for top, bottom in (table[:, :2].T, table[:, 2:].T):
        values.append(top.sum() / bottom.sum())
        influences.append((top - values[-1] * bottom) / bottom.sum())
    return _delta(values[0] - values[1], influences[0] - influences[1], _numbered(groups, len(table)), len(table))


def length_controlled(
    a: Sequence[float], b: Sequence[float], lengths_a: Sequence[float], lengths_b: Sequence[float],
    groups: Groups = None,
) -> Measure:  # fmt: skip
    """The mean judge's score of `a` minus that of `b` if their answers to each question were equally long.

    As in length-controlled AlpacaEval (Dubois et al. 2024), with scores instead of preferences: the differences are
    regressed on log2 of the ratio of lengths, and the value is the fit at ratio 1. Judge both orders and average the
    scores first. Where answers are longer because they are better this removes that, too. NOTHING where all pairs
    have the same ratio of lengths other than 1: its effect cannot be estimated.
    """
    gaps = np.subtract(a, b, dtype=float)
    doublings = np.log2(np.maximum(lengths_a, 1)) - np.log2(np.maximum(lengths_b, 1))  # an empty answer has length 1
    if not len(gaps) or np.ptp(doublings) < 1e-9:
        return NOTHING if doublings.any() else mean(gaps, groups)
    design = np.column_stack([np.ones(len(gaps)), doublings])  # (questions, 2)
    inverse = np.linalg.inv(design.T @ design)
    fit = inverse @ design.T @ gaps
    influence = (gaps - design @ fit) * (design @ inverse[:, 0])
    return _delta(fit[0], influence, _numbered(groups, len(gaps)), len(gaps), parameters=2)


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]]) -> float | None:
    """The agreement of judges beyond chance: 1 is perfect, 0 is chance (Krippendorff 2011, interval metric).

    `ratings` has one row a judge and one column a case; None is missing. Cases with one rating do not count. None
    where fewer than two ratings can be paired, or all are the same.
    """
    table = np.array(ratings, dtype=float)  # None becomes nan
    cases = [column[~np.isnan(column)] for column in table.T]
    cases = [case for case in cases if len(case) > 1]
    paired = np.concatenate(cases) if cases else np.empty(0)
    if not len(paired) or not np.ptp(paired):
        return None
    within = sum(len(case) * case.var(ddof=1) for case in cases) / len(paired)
    return float(1 - within / paired.var(ddof=1))


@dataclass(frozen=True, slots=True)
class PairedVariance:
    """How the differences between two models' answers to the same questions vary.

    `variance` is that of a single question's difference, `deff` the design effect of `per_image` questions an image.
    """

    variance: float
    deff: float = 1.0
    per_image: float = 1.0


@dataclass(frozen=True, slots=True)
class Needed:
    """The number of questions, and of images that they are about."""

    questions: int
    images: int


def measured_variance(a: Sequence[float], b: Sequence[float], groups: Groups = None) -> PairedVariance:
    """From the results of two models in a pilot. Raises VistuneError if they do not differ or have one image only."""
    gaps = np.subtract(a, b, dtype=float)
    clusters = _numbered(groups, len(gaps))
    images = len(set(clusters))
    if images < 2 or not np.ptp(gaps):
        what = f"the pilot's {len(gaps)} questions on {images} images show no variance"
        raise VistuneError(what, fix="use more images, or an assumed accuracy and correlation")
    variance = float(gaps.var(ddof=1))
    deff = _variance((gaps - gaps.mean()) / len(gaps), clusters) * len(gaps) / variance
    return PairedVariance(variance, max(1.0, deff), len(gaps) / images)


def assumed_variance(
    accuracy: float, gap: float, *, correlation: float = 0.5, per_image: float = 1, image_correlation: float = 0.1
) -> PairedVariance:
    """For models with `accuracy` and `accuracy + gap`.

    `correlation` is that of their outcomes on a question, `image_correlation` that of the differences of two questions
    about one image. Raises VistuneError if an accuracy is not between 0 and 1.
    """
    other = accuracy + gap
    if not (0 < accuracy < 1 and 0 < other < 1):
        raise VistuneError(f"accuracies of {accuracy:g} and {other:g}", fix="choose both between 0 and 1")
    variances = accuracy * (1 - accuracy), other * (1 - other)
    variance = sum(variances) - 2 * correlation * math.sqrt(math.prod(variances))
    return PairedVariance(variance, 1 + (per_image - 1) * image_correlation, per_image)


def questions_needed(gap: float, paired: PairedVariance, *, power: float = 0.8) -> Needed:
    """How many questions show a true difference of `gap` at the 5 % level, two-sided, with probability `power`.

    Raises VistuneError for a gap of 0 and a power outside of 0.5 to 1.
    """
    if not gap or not 0.5 <= power < 1:
        fix = "choose a difference other than 0 and a power of at least 0.5 and below 1"
        raise VistuneError(f"a difference of {gap:g} with a power of {power:g}", fix=fix)
    ratio_of_variances = paired.variance * paired.deff / paired.per_image / gap**2

    def required(images: int) -> float:
        return (t_quantile(0.975, images - 1) + t_quantile(power, images - 1)) ** 2 * ratio_of_variances

    images = max(2, math.ceil(required(10**6)))
    while images < required(images):  # t is a little larger than the normal quantile: a few steps
        images += 1
    return Needed(math.ceil(images * paired.per_image), images)


@cache
def t_quantile(p: float, df: float) -> float:
    """The quantile of Student's t with `df` ≥ 1 degrees of freedom, for p from 0.5 to below 1; correct to 1e-6."""
    # With t = sqrt(df) tan(x), P(0 < T < t) is the integral of cos^(df-1) from 0 to x over that from -pi/2 to pi/2.
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(df / 2) - math.lgamma((df + 1) / 2))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    x, step = 0.0, math.inf
    while step > 1e-12 * x:  # Newton's method; the integral is concave, so it approaches from below
        integral = x / 2 * float(weights @ np.cos(x / 2 * (nodes + 1)) ** (df - 1))
        step = ((p - 0.5) * whole - integral) / math.cos(x) ** (df - 1)
        x += step
    return math.sqrt(df) * math.tan(x)


def _numbered(groups: Groups, n: int) -> _Clusters:
    """The cluster of each case as a number from 0."""
    if groups is None:
        return np.arange(n)
    numbers: dict[Hashable, int] = {}
    found = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)
    if len(found) != n:
        raise ValueError(f"{len(found)} groups for {n} cases")
    return found


def _columns(parts: Iterable[Part], groups: Groups) -> tuple[_Floats, _Floats, _Clusters]:
    """Numerators, denominators and clusters, without the pairs (0, 0)."""
    table = np.array(list(parts), dtype=float).reshape(-1, 2)
    filled = table.any(axis=1)
    clusters = _numbered(_numbered(groups, len(table))[filled], int(filled.sum()))
    return table[filled, 0], table[filled, 1], clusters


def _variance(influence: _Floats, clusters: _Clusters, parameters: int = 1) -> float:
    """The variance of an estimate from how each case moves it, linearised and summed over its cluster."""
    sums = np.bincount(clusters, influence)
    return float(len(sums) / (len(sums) - parameters) * (sums**2).sum())


def _delta(
    value: float, influence: _Floats, clusters: _Clusters, n: int, total: float | None = None, parameters: int = 1
) -> Measure:
    low = high = None
    if (df := clusters.max() + 1 - parameters) > 0:
        half = t_quantile(0.975, df) * math.sqrt(_variance(influence, clusters, parameters))
        low, high = float(value - half), float(value + half)
    return Measure(float(value), low, high, n, None if total is None else _plain(total))


def _plain(total: float) -> float:
    """A whole number of points or answers as an int, as tables and files show it."""
    return int(total) if float(total).is_integer() else float(total)
