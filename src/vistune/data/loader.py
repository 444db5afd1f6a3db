"""The order of the data and its batches: a pure function of the seed and the step, so any step can be resumed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vistune.data.collate import Batch, collate
from vistune.data.encode import Sample
from vistune.data.groups import Group, group_ids, make_groups
from vistune.data.images import ImageStore


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: this process's micro-batches, and the number of targets over all processes."""

    number: int
    micro_batches: list[Batch]
    targets: int


class Order:
    """The samples' order in every epoch: groups at random, the samples of a group one after the other."""

    def __init__(self, groups: Tensor, seed: int) -> None:
        self._groups, self._seed = groups, seed  # (n), the number of each sample's group
        self._epoch = lru_cache(maxsize=2)(self._order)

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        rank = torch.randperm(int(self._groups.max()) + 1, generator=generator)
        return rank[self._groups].argsort(stable=True)  # (n)

    def step(self, number: int, batch_size: int) -> list[int]:
        """The samples of a step (from 0); epochs follow each other without a gap, so that every batch is full."""
        count = len(self._groups)
        first = number * batch_size
        epochs = range(first // count, (first + batch_size - 1) // count + 1)
        run = torch.cat([self._epoch(epoch) for epoch in epochs])
        order: list[int] = run[first - epochs.start * count :][:batch_size].tolist()
        return order


def share_out(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """The groups in so many parts of about as many tokens each, the longest first.

    No part is empty: where there are fewer groups than parts, groups are cut in two. Raises ValueError if there are
    fewer samples than parts.
    """
    pending = list(groups)
    while len(pending) < parts:
        largest = max(pending, key=lambda group: len(group.samples))
        if len(largest.samples) < 2:
            raise ValueError(f"{len(pending)} samples cannot be shared out in {parts} parts")
        pending.remove(largest)
        pending += largest.halves()
    shares: list[list[Group]] = [[] for _ in range(parts)]
    lightest = [(0, index) for index in range(parts)]
    for group in sorted(pending, key=lambda group: -group.length):
        tokens, index = heapq.heappop(lightest)
        shares[index].append(group)
        heapq.heappush(lightest, (tokens + group.length, index))
    return shares


class Loader:
    """Reads the batches of steps, the next one in a thread while the current one trains."""

    def __init__(
        self, samples: Sequence[Sample], images: ImageStore, *, batch_size: int, micro_batch_size: int, seed: int,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self._samples, self._images, self._batch_size = samples, images, batch_size
        self._order = Order(torch.from_numpy(group_ids(samples)), seed)
        self._rank, self._world = rank, world
        self._parts = world * max(1, round(batch_size / (world * micro_batch_size)))

    def steps(self, start: int, stop: int) -> Iterator[Step]:
        """The steps from `start` to before `stop`."""
        with ThreadPoolExecutor(max_workers=1) as ahead:
            pending = ahead.submit(self._step, start) if start < stop else None
            for number in range(start, stop):
                assert pending is not None
                step = pending.result()
                pending = ahead.submit(self._step, number + 1) if number + 1 < stop else None
                yield step

    def _step(self, number: int) -> Step:
        chosen = [self._samples[i] for i in self._order.step(number, self._batch_size)]
        targets = sum(int(sample.targets[1:].sum()) for sample in chosen)
        parts = share_out(make_groups(chosen), self._parts)
        own = parts[self._rank :: self._world]
        return Step(number, [collate(part, self._images.get) for part in own], targets)
