from __future__ import annotations

import pytest

from vistune.pages.charts import BAR_SIZE, CURVE_SIZE, bar_chart, loss_curve

REFERENCE = {"mean": 78.2, "p10": 51.0, "p90": 110.0, "max": 160.5}


@pytest.mark.parametrize("bins", [{}, {0: 1}, {1: 1}, {5: 9}, {3: 1, 700: 1, 4: 1, 5: 1}, {2_000: 1}])
@pytest.mark.parametrize("reference", [None, REFERENCE])
def test_a_bar_chart_counts_every_number_up_to_its_end_once(
    bins: dict[int, int], reference: dict[str, float] | None
) -> None:
    end = min(max(bins, default=0), 100)
    chart = bar_chart(bins, {"mean": 1.0}, end, reference)
    counts = [int(label.rpartition(": ")[2].replace(",", "")) for *_, label in chart["bars"]]
    assert sum(counts) == sum(n for value, n in bins.items() if value <= 160)  # 160 is the reference's end
    assert all(0 <= x <= BAR_SIZE[0] and 0 <= height <= BAR_SIZE[1] for x, _, _, height, _ in chart["bars"])
    assert len(chart["bars"]) <= 25


def test_a_reference_is_drawn_on_the_axis_of_the_data() -> None:
    chart = bar_chart({100: 3}, {"mean": 100.0}, 100, REFERENCE)
    assert chart["band"] is not None
    assert chart["reference"] is not None
    assert 0 < chart["band"][0] < chart["reference"]["x"] < chart["mean"] < chart["band"][1] < BAR_SIZE[0]


def test_a_loss_curve_ends_where_the_log_does() -> None:
    curve = loss_curve("align", [(step, 1 + 1 / step) for step in range(1, 301)])
    assert curve is not None
    assert (curve["steps"], round(curve["final"], 1)) == (300, 1.0)
    assert curve["smooth"].endswith(f"{curve['end'][0]},{curve['end'][1]}")
    heights = [float(point.split(",")[1]) for point in curve["smooth"].split()]
    assert heights == sorted(heights)  # a falling loss falls, in a picture whose y grows downwards
    assert max(heights) < CURVE_SIZE[1]
    assert loss_curve("one point", [(1, 2.0)]) is None


def test_a_long_log_is_thinned() -> None:
    curve = loss_curve("long", [(step, 0.0) for step in range(1, 5001)])
    assert curve is not None
    assert len(curve["raw"].split()) <= 401
