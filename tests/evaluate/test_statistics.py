from __future__ import annotations

import pytest

from vistune.evaluate.statistics import Measure, difference, ratio, share


def test_wilsons_interval_as_published() -> None:
    found = share([True] * 8 + [False] * 2)
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


@pytest.mark.parametrize("right", [True, False])
def test_all_or_none_leaves_doubt_on_one_side_only(right: bool) -> None:
    found = share([right] * 20)
    assert found.value == float(right)
    assert (found.high == 1.0 and 0.8 < found.low < 0.9) if right else (found.low == 0.0 and 0.1 < found.high < 0.2)


def test_nothing_measured_is_no_score() -> None:
    assert share([]) == ratio([]) == ratio([(0, 0)]) == difference([], [], []) == Measure(None, None, None, 0)


def test_a_ratio_weighs_images_by_what_they_hold_and_repeats_exactly() -> None:
    parts = [(1.0, 10.0), (1.0, 1.0)] * 20
    found = ratio(parts)
    assert found.value == pytest.approx(2 / 11)
    assert found.low < found.value < found.high
    assert found == ratio(parts)


def test_images_without_a_denominator_do_not_break_the_interval() -> None:
    found = ratio([(0.0, 0.0)] * 9 + [(1.0, 2.0)])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_difference_is_paired() -> None:
    a = [True, True, False, True] * 25
    groups = [str(index // 4) for index in range(100)]
    same = difference(a, a, groups)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = difference(a, [False] * 100, groups)
    assert (better.value, better.low, better.high) == (0.75, 0.75, 0.75)
    with pytest.raises(ValueError, match="shorter"):
        difference(a, a[1:], groups)
