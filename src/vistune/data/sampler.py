"""The order of the training samples: a pure function of the seed, so that any step can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def number_groups(keys: NDArray[np.uint64]) -> Numbers:
    """For each key (n) the number of its group, counted in the order of their first members."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.asarray(first.argsort().argsort()[inverse], dtype=np.int64)


class Sampler:
    """The order of the samples in every epoch: groups at random, the samples of a group one after the other.

    Samples are numbered through several sources. Each source is an endless run of shuffled passes, of which an epoch
    takes `weight` times the source's size, from where the epoch before ended. So a source of weight 0.5 gives each
    sample once in two epochs, one of weight 2 gives each sample twice in every epoch.
    """

    def __init__(self, groups: Sequence[Numbers], weights: Sequence[float], seed: int) -> None:
        """`groups`: for each source the number of each sample's group; sources may have groups in common."""
        self._groups, self._seed = groups, seed
        self._taken = [max(1, round(weight * len(of))) for of, weight in zip(groups, weights, strict=True)]
        self._first = [0, *np.cumsum([len(of) for of in groups]).tolist()]
        self._all_groups = max(int(of.max()) for of in groups) + 1
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    @property
    def epoch_size(self) -> int:
        return sum(self._taken)

    def step(self, number: int, batch_size: int) -> list[int]:
        """The samples of a step (from 0); epochs follow each other without a gap, so that every batch is full."""
        size = self.epoch_size
        first = number * batch_size
        epochs = range(first // size, (first + batch_size - 1) // size + 1)
        run = np.concatenate([self._epoch(epoch) for epoch in epochs])
        order: list[int] = run[first - epochs.start * size :][:batch_size].tolist()
        return order

    def _shuffled(self, epoch: int) -> Numbers:
        """The samples of an epoch; a group that occurs more than once does so at different places."""
        chosen, runs = [], []
        for source, groups in enumerate(self._groups):
            for turn, part in enumerate(self._parts(source, epoch)):
                chosen.append(part + self._first[source])
                runs.append(groups[part] + turn * self._all_groups)
        _, run = np.unique(np.concatenate(runs), return_inverse=True)
        rank = _permutation(int(run.max()) + 1, self._seed * 1_000_003 + epoch)
        return np.concatenate(chosen)[rank[run].argsort(kind="stable")]

    def _parts(self, source: int, epoch: int) -> list[Numbers]:
        """The epoch's share of each of the source's passes that it touches, each in the data's order."""
        size, taken = len(self._groups[source]), self._taken[source]
        start = epoch * taken
        stop = start + taken
        parts = []
        for number in range(start // size, (stop - 1) // size + 1):
            piece = slice(max(0, start - number * size), min(size, stop - number * size))
            whole = piece == slice(0, size)
            parts.append(np.arange(size) if whole else np.sort(self._pass(source, number)[piece]))
        return parts

    def _pass(self, source: int, number: int) -> Numbers:
        groups = self._groups[source]
        rank = _permutation(self._all_groups, ((self._seed * 1_000_003 + number) * 1_009 + source) + 2**40)
        return np.asarray(rank[groups].argsort(kind="stable"))


def _permutation(size: int, seed: int) -> Numbers:
    generator = torch.Generator().manual_seed(seed % 2**63)
    return np.asarray(torch.randperm(size, generator=generator).numpy())
