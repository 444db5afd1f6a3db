"""The order of the data and its batches: a pure function of the seed and the step, so any step can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vistune.data.collate import Batch, collate
from vistune.data.encode import Sample
from vistune.data.images import ImageStore


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: this process's micro-batches, and the number of targets over all processes."""

    number: int
    micro_batches: list[Batch]
    targets: int


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The samples' order in an epoch (count,)."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def step_order(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The samples of a step (from 0); epochs follow each other without a gap, so that every batch is full."""
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    run = torch.cat([epoch_order(count, seed, epoch) for epoch in epochs])
    order: list[int] = run[first - epochs.start * count :][:batch_size].tolist()
    return order


class Loader:
    """Reads the batches of steps, the next one in a thread while the current one trains."""

    def __init__(
        self, samples: Sequence[Sample], images: ImageStore, *, batch_size: int, micro_batch_size: int, pad_id: int,
        seed: int, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self._samples, self._images = samples, images
        self._batch_size, self._micro, self._pad_id, self._seed = batch_size, micro_batch_size, pad_id, seed
        self._rank, self._world = rank, world

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
        chosen = [self._samples[i] for i in step_order(len(self._samples), self._batch_size, self._seed, number)]
        targets = sum(int(sample.targets.sum()) for sample in chosen)
        chosen.sort(key=lambda sample: len(sample.input_ids))  # little padding in each micro-batch
        own = chosen[self._rank :: self._world]
        parts = [own[i : i + self._micro] for i in range(0, len(own), self._micro)]
        return Step(number, [self._collate(part) for part in parts], targets)

    def _collate(self, samples: list[Sample]) -> Batch:
        pixels = [self._images.get(sample.image) for sample in samples if sample.image is not None]
        return collate(samples, pixels, self._pad_id)
