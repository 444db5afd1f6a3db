from __future__ import annotations

import random
import statistics

from vistune.generate.quality.counters import Histogram, Tally
from vistune.seeded import HashSample


def test_a_histogram_is_exact_within_its_bins() -> None:
    values = [random.Random(0).randrange(500) for _ in range(2_001)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert histogram.to_dict() == {
        "mean": round(statistics.mean(values), 3), "min": min(values), "p10": sorted(values)[200],
        "p50": statistics.median(values), "p90": sorted(values)[1800], "max": max(values),
    }  # fmt: skip


def test_no_number_of_different_things_takes_more_memory() -> None:
    histogram, tally = Histogram(), Tally()
    for value in range(30_000):
        histogram.add(value)
        tally.add(f"word {value}")
        tally.add("the same")
    assert len(histogram.bins) == Histogram.LARGEST + 1
    assert (histogram.to_dict()["max"], histogram.to_dict()["mean"]) == (29_999, 14_999.5)
    assert len(tally.counts) == Tally.MOST
    assert (tally.total, tally.top(1), tally.share()) == (60_000, [("the same", 30_000)], 0.5)


def test_a_sample_by_hash_does_not_depend_on_the_order() -> None:
    names = [str(number) for number in range(1_000)]
    drawn = []
    for order in (names, names[::-1]):
        sample: HashSample[str] = HashSample(50, "key")
        for name in order:
            sample.add(name, lambda name=name: name)  # type: ignore[misc]
        drawn.append(sample.items())
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 50
    assert 300 < statistics.mean(map(int, drawn[0])) < 700
