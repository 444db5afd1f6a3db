from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.random import Generator, default_rng

from vistune.errors import VistuneError
from vistune.evaluate.statistics import (
    NOTHING,
    Measure,
    PairedVariance,
    assumed_variance,
    difference,
    krippendorff_alpha,
    length_controlled,
    mean,
    measured_variance,
    questions_needed,
    ratio,
    ratio_difference,
    share,
    share_of_counts,
    t_quantile,
)


@pytest.mark.parametrize(
    ("p", "df", "table"),
    [(0.975, 1, 12.706205), (0.975, 2, 4.302653), (0.975, 9, 2.262157), (0.975, 23, 2.068658), (0.975, 120, 1.979930),
     (0.8, 1, 1.376382), (0.9995, 1, 636.619249), (0.995, 5, 4.032143), (0.975, 10**7, 1.959964), (0.5, 3, 0.0)],
)  # fmt: skip
def test_quantiles_of_students_t_as_in_tables(p: float, df: int, table: float) -> None:
    assert t_quantile(p, df) == pytest.approx(table, abs=1e-6)


def test_nothing_measured_is_no_score() -> None:
    assert Measure(None, None, None, 0) == NOTHING
    assert share([]) == ratio([]) == ratio([(0, 0)]) == mean([]) == difference([], [], []) == NOTHING
    assert (
        ratio_difference([], []) == ratio_difference([(1, 0)], [(1, 2)]) == length_controlled([], [], [], []) == NOTHING
    )


def test_a_measure_survives_json() -> None:
    found = share([True, False, True], ["a", "a", "b"])
    assert Measure(**json.loads(json.dumps(asdict(found)))) == found
    assert (found.n, found.total) == (3, 2)


# Shares


def test_wilsons_interval_as_published() -> None:
    found = share([True] * 8 + [False] * 2)
    assert (found.value, found.n, found.total) == (0.8, 10, 8)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert share([True] * 8 + [False] * 2, range(10)) == found


@pytest.mark.parametrize("right", [True, False])
def test_all_or_none_leaves_doubt_on_one_side_only(right: bool) -> None:
    for groups in (None, [case // 2 for case in range(20)]):
        found = share([right] * 20, groups)
        assert found.value == float(right)
        assert (found.high == 1.0 and 0.7 < found.low < 0.9) if right else (found.low == 0.0 and 0.1 < found.high < 0.3)


def test_questions_that_succeed_and_fail_together_count_as_one() -> None:
    """Four questions an image with one outcome: as many cases as images, but for t instead of the normal quantile."""
    outcomes = [True] * 800 + [False] * 200
    clustered, images = share(outcomes * 4, list(range(1000)) * 4), share(outcomes)
    assert (clustered.n, clustered.total) == (4000, 3200)
    assert clustered.low == pytest.approx(images.low, abs=1e-4)
    assert clustered.high == pytest.approx(images.high, abs=1e-4)


def test_clusters_never_narrow_an_interval() -> None:
    """Every image has one right and one wrong answer: less variance than chance, but no more cases."""
    found, independent = share([True, False] * 500, [case // 2 for case in range(1000)]), share([True, False] * 500)
    assert found.low == pytest.approx(independent.low, abs=1e-3)
    assert found.low <= independent.low


def test_one_image_says_nothing_of_others() -> None:
    assert share([True, True, False, True], ["one"] * 4) == Measure(0.75, 0.0, 1.0, 4, 3)
    assert mean([1.0, 2.0], ["one"] * 2) == Measure(1.5, None, None, 2, 3)


def test_counts_are_their_cases() -> None:
    counts = [(3, 4), (0, 0), (1, 1), (2, 6)]
    outcomes = [case < right for right, of in counts for case in range(of)]
    groups = [image for image, (_, of) in enumerate(counts) for _ in range(of)]
    assert asdict(share_of_counts(counts)) == pytest.approx(asdict(share(outcomes, groups)))


# Means, ratios, differences

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Student's example of 1908: the additional hours of sleep of ten patients with one drug instead of another."""


def test_a_mean_has_students_interval() -> None:
    found = mean(SLEEP)
    assert (found.value, found.low, found.high) == (
        pytest.approx(1.58),
        pytest.approx(0.700, abs=1e-3),
        pytest.approx(2.460, abs=1e-3),
    )
    assert found.excludes_zero
    assert not mean([-1.0, 1.0, 2.0]).excludes_zero


def test_a_ratio_weighs_images_by_what_they_hold() -> None:
    found = ratio([(1.0, 10.0), (1.0, 1.0)] * 20)
    assert (found.value, found.n, found.total) == (pytest.approx(2 / 11), 220, 40)
    # linearised: each pair's residual is 9/11 or -9/11 of 220 cases; 40 pairs, t(39) = 2.0227
    assert found.high == pytest.approx(2 / 11 + 2.0227 * (40 / 39 * 40) ** 0.5 * 9 / 11 / 220, abs=1e-5)


def test_images_without_a_denominator_are_no_cases() -> None:
    pairs = [(1.0, 2.0), (2.0, 2.0), (0.0, 1.0)]
    assert ratio([(0.0, 0.0)] * 9 + pairs) == ratio(pairs)
    assert ratio([(0.0, 0.0)] * 9 + pairs[:1]) == Measure(0.5, None, None, 2, 1)


def test_a_difference_is_paired_and_clustered() -> None:
    a = [True, True, False, True] * 25
    groups = [str(index // 4) for index in range(100)]
    same = difference(a, a, groups)
    assert (same.value, same.low, same.high, same.excludes_zero) == (0.0, 0.0, 0.0, False)
    better = difference(a, [False] * 100, groups)
    assert (better.value, better.low, better.high, better.excludes_zero) == (0.75, 0.75, 0.75, True)
    slept = difference([*SLEEP, *SLEEP], [0.0] * 20, [*range(10), *range(10)])
    assert (slept.low, slept.high) == (pytest.approx(mean(SLEEP).low), pytest.approx(mean(SLEEP).high))
    with pytest.raises(ValueError, match="shorter"):
        difference(a, a[1:], groups)
    with pytest.raises(ValueError, match="99 groups for 100 cases"):
        difference(a, a, groups[1:])


def test_a_difference_of_ratios_is_paired() -> None:
    rng = default_rng(0)
    easy = rng.normal(0, 2, 60)  # what a question adds to both models' scores
    reference = rng.uniform(7, 9, 60)
    a, b = (list(zip(level + easy + rng.normal(0, 0.3, 60), reference, strict=True)) for level in (6.0, 5.5))
    found = ratio_difference(a, b)
    assert found.value == pytest.approx(ratio(a).value - ratio(b).value)
    assert found.excludes_zero
    assert found.high - found.low < 0.3 * (ratio(a).high - ratio(a).low)
    ones = [(x, 1.0) for x, _ in a], [(x, 1.0) for x, _ in b]
    plain = difference([x for x, _ in a], [x for x, _ in b])
    assert ratio_difference(*ones).low == pytest.approx(plain.low)


# Do they hold? benchmarks/eval_intervals.py has all designs with more data sets.


def outcomes(rng: Generator, images: int, questions: int, p: float, correlation: float) -> np.ndarray:
    """Right or wrong with a beta-binomial correlation within images, flat."""
    scale = 1 / correlation - 1
    chances = rng.beta(p * scale, (1 - p) * scale, (images, 1))
    return (rng.random((images, questions)) < chances).ravel()


def test_the_interval_of_a_share_holds_its_95_percent() -> None:
    rng, groups = default_rng(0), np.repeat(np.arange(20), 6)
    found = [share(outcomes(rng, 20, 6, 0.87, 0.2), groups) for _ in range(2000)]
    assert 0.935 < np.mean([one.low <= 0.87 <= one.high for one in found]) < 0.965


def test_equal_models_seldom_differ() -> None:
    rng, groups = default_rng(0), np.repeat(np.arange(30), 3)
    draws = [(outcomes(rng, 30, 3, 0.6, 0.2), outcomes(rng, 30, 3, 0.6, 0.2)) for _ in range(2000)]
    assert 0.035 < np.mean([difference(a, b, groups).excludes_zero for a, b in draws]) < 0.065


# Power


def test_the_questions_needed_are_those_of_a_paired_t_test() -> None:
    """Tables for effect sizes of 0.5 and 0.2 at 80 % power: 34 and 199 pairs."""
    assert questions_needed(0.5, PairedVariance(1.0)).questions == pytest.approx(34, abs=1)
    assert questions_needed(-0.2, PairedVariance(1.0)).questions == pytest.approx(199, abs=1)
    assert questions_needed(0.2, PairedVariance(1.0), power=0.9).questions == pytest.approx(265, abs=1)
    several = questions_needed(0.2, PairedVariance(1.0, deff=1.5, per_image=6))
    assert several.images == pytest.approx(199 * 1.5 / 6, abs=3)
    assert several.questions == 6 * several.images


def test_that_many_questions_show_the_difference_four_times_in_five() -> None:
    gap, rng = 0.08, default_rng(1)
    needed = questions_needed(gap, assumed_variance(0.7, gap, correlation=0, per_image=4, image_correlation=0.2))
    groups = np.repeat(np.arange(needed.images), 4)
    size = (needed.images, 4)
    draws = [(outcomes(rng, *size, 0.7 + gap, 0.2), outcomes(rng, *size, 0.7, 0.2)) for _ in range(500)]
    assert 0.75 < np.mean([difference(a, b, groups).excludes_zero for a, b in draws]) < 0.85


def test_a_pilot_measures_what_is_assumed() -> None:
    rng, groups = default_rng(2), np.repeat(np.arange(3000), 4)
    a, b = outcomes(rng, 3000, 4, 0.7, 0.2), outcomes(rng, 3000, 4, 0.8, 0.2)
    measured = measured_variance(a, b, groups)
    assumed = assumed_variance(0.7, 0.1, correlation=0, per_image=4, image_correlation=0.2)
    assert measured.per_image == 4
    assert measured.variance == pytest.approx(assumed.variance, rel=0.05)
    assert measured.deff == pytest.approx(assumed.deff, rel=0.1)


def test_power_of_nothing_is_a_users_mistake() -> None:
    for wrong in (
        lambda: questions_needed(0, PairedVariance(1.0)),
        lambda: questions_needed(0.1, PairedVariance(1.0), power=80),
        lambda: measured_variance([1, 1, 0], [1, 1, 0]),
        lambda: measured_variance([1, 0], [0, 0], ["one", "one"]),
        lambda: assumed_variance(0.95, 0.05),
    ):
        with pytest.raises(VistuneError, match="fix: "):
            wrong()


# Judges

KRIPPENDORFF_2011 = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
THREE_CODERS = """
. . . . . 3 4 1 2 1 1 3 3 . 3
1 . 2 1 3 3 4 3 . . . . . . .
. . 2 1 3 4 4 . 2 1 1 3 3 . 4
"""


@pytest.mark.parametrize(("ratings", "alpha"), [(KRIPPENDORFF_2011, 0.849), (THREE_CODERS, 0.811)])
def test_krippendorffs_alpha_as_published(ratings: str, alpha: float) -> None:
    rows = [[None if one == "." else float(one) for one in row.split()] for row in ratings.strip().splitlines()]
    assert krippendorff_alpha(rows) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_undefined_without_two_judges_or_variance() -> None:
    assert krippendorff_alpha([]) is krippendorff_alpha([[1, 2]]) is krippendorff_alpha([[3, 3], [3, 3]]) is None
    assert krippendorff_alpha([[1, None], [None, 2]]) is None
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == 1.0


def test_without_a_length_effect_the_difference_stays() -> None:
    assert length_controlled([5, 6], [4, 4], [10, 20], [10, 20]) == difference([5, 6], [4, 4])
    assert length_controlled([5, 6], [4, 4], [20, 20], [10, 10]) == NOTHING  # quality and length are inseparable


@pytest.mark.parametrize("seed", range(10))
def test_both_orders_and_length_control_recover_the_order_of_models(seed: int) -> None:
    """A judge adds 1 to the first answer and 0.5 per doubling of length; worse models write more."""
    rng, questions = default_rng(seed), 90
    groups = np.arange(questions) // 3
    lengths = {"reference": 100 * 2 ** rng.normal(0, 0.5, questions)}
    quality = {"reference": 8.0, "best": 7.0, "second": 6.6, "third": 6.2, "fourth": 5.8, "last": 5.4}
    for doublings, model in zip((-2.0, -1.0, 0.0, 1.0, 2.0), list(quality)[1:], strict=True):
        lengths[model] = 100 * 2 ** (doublings + rng.normal(0, 0.6, questions))

    def judged(first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        """The scores of both answers, that of the first with the judge's preference for it."""
        a, b = (quality[one] + 0.5 * np.log2(lengths[one]) + rng.normal(0, 0.5, questions) for one in (first, second))
        return a + 1, b

    raw, controlled = {}, {}
    for model in list(quality)[1:]:
        first, second = judged("reference", model), judged(model, "reference")[::-1]
        theirs, ours = np.mean([first, second], axis=0)
        raw[model] = difference(ours, theirs, groups).value
        controlled[model] = length_controlled(ours, theirs, lengths[model], lengths["reference"], groups)
    assert sorted(raw, key=raw.get) != list(quality)[:0:-1]
    assert sorted(controlled, key=lambda one: controlled[one].value) == list(quality)[:0:-1]
    truth = {model: quality[model] - 8.0 for model in controlled}
    assert all(abs(controlled[one].value - truth[one]) < 0.6 for one in truth)
