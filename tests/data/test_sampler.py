from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from vistune.data.sampler import Sampler, number_groups


def run(sampler: Sampler, start: int, stop: int, batch: int = 7) -> list[list[int]]:
    return [sampler.step(number, batch) for number in range(start, stop)]


def passes(sampler: Sampler, epochs: int) -> list[list[int]]:
    return [sampler.step(epoch, sampler.epoch_size) for epoch in range(epochs)]


def test_groups_are_numbered_by_their_first_members() -> None:
    keys = np.array([9, 4, 9, 7, 4], dtype=np.uint64)
    assert number_groups(keys).tolist() == [0, 1, 0, 2, 1]


def test_an_epoch_is_every_sample_once_with_groups_together_in_another_order_each_time() -> None:
    groups = np.arange(50) // 3
    epochs = passes(Sampler([groups], [1.0], seed=0), 3)
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
        runs = [groups[i] for i in epoch]
        assert sum(a != b for a, b in pairwise(runs)) == 16
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs != passes(Sampler([groups], [1.0], seed=1), 3)


def test_a_step_is_the_same_wherever_one_begins() -> None:
    sources = [np.arange(20), np.arange(20, 50) // 2]
    whole = run(Sampler(sources, [0.3, 1.5], seed=3), 0, 30)
    assert run(Sampler(sources, [0.3, 1.5], seed=3), 17, 30) == whole[17:]


@pytest.mark.parametrize(
    ("weight", "epochs", "times"), [(0.5, 2, 1), (0.25, 4, 1), (2.0, 1, 2), (1.5, 2, 3), (0.4, 5, 2)]
)
def test_a_weight_is_how_often_an_epoch_passes_over_a_source(weight: float, epochs: int, times: int) -> None:
    sources = [np.arange(40), 40 + np.arange(20) // 2]
    sampler = Sampler(sources, [1.0, weight], seed=0)
    assert sampler.epoch_size == 40 + 20 * weight
    taken = passes(sampler, epochs)
    assert Counter(sample for epoch in taken for sample in epoch if sample >= 40) == dict.fromkeys(range(40, 60), times)
    for epoch in taken:
        assert sorted(sample for sample in epoch if sample < 40) == list(range(40))
        places = [place for place, sample in enumerate(epoch) if sample >= 40]
        assert min(places) < 20  # mixed, not one source after the other
        assert max(places) > 20


def test_sources_about_the_same_images_share_their_groups() -> None:
    sampler = passes(Sampler([np.arange(30), np.arange(30)], [1.0, 1.0], seed=0), 1)[0]
    assert all(abs(sampler.index(image) - sampler.index(30 + image)) == 1 for image in range(30))


def test_the_smallest_weight_still_takes_a_sample() -> None:
    assert Sampler([np.arange(10), np.arange(10, 13)], [1.0, 0.01], seed=0).epoch_size == 11


def test_a_step_may_be_larger_than_an_epoch() -> None:
    sampler = Sampler([np.arange(3)], [1.0], seed=0)
    assert [sorted(sampler.step(step, 9)) for step in (0, 5)] == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2
