"""The batches of steps: a pure function of the data, the seed and the step, so that any step can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vistune.data.collate import Batch, collate, image_tokens
from vistune.data.dataset import Dataset
from vistune.data.encode import Sample
from vistune.data.groups import Group, make_groups
from vistune.data.images import ImageStore
from vistune.errors import DataError

T = TypeVar("T")

_FEW = 10
"""Unreadable images that are tolerated if the data has twice as many, and reported one by one; beyond them, one in a
hundred is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: this process's micro-batches, and the number of targets, or of pairs, over all processes."""

    number: int
    micro_batches: list[Batch]
    targets: int


def share_out(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """The groups in `parts` parts of about equal numbers of tokens, assigned longest first.

    No part is empty: if there are fewer groups than parts, groups are cut in two. Raises ValueError if there are
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
    tokens = [0] * parts
    for group in sorted(pending, key=lambda group: -group.length):
        lightest = tokens.index(min(tokens))
        shares[lightest].append(group)
        tokens[lightest] += group.length
    return shares


def one_ahead(make: Callable[[int], T], numbers: Sequence[int]) -> Iterator[T]:
    """`make(number)` for each number; the next one is made in a thread while the current one is used."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending = [thread.submit(make, number) for number in numbers[:1]]
        for number in numbers[1:]:
            made = pending.pop().result()
            pending.append(thread.submit(make, number))
            yield made
        for last in pending:
            yield last.result()


class Loader:
    """Reads the batches of steps, the next one in a thread while the current one trains.

    An unusable conversation is replaced by one drawn at random by the seed, the step and its place. An unreadable
    image is blank and the answers about it are not learned; `output` gets its name.
    """

    def __init__(
        self, data: Dataset, images: ImageStore, *, batch_size: int, micro_batch_size: int, seed: int, rank: int = 0,
        world: int = 1, output: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self._data, self._images, self._batch_size, self._seed = data, images, batch_size, seed
        self._sampler = data.sampler(seed)
        self._rank, self._world, self._output = rank, world, output
        self._parts = world * max(1, min(batch_size // world, round(batch_size / (world * micro_batch_size))))
        self._unreadable: set[str] = set()
        self._read = 0

    @property
    def epoch_size(self) -> int:
        return self._sampler.epoch_size

    def steps(self, start: int, stop: int) -> Iterator[Step]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
            yield from one_ahead(lambda number: self._step(number, readers), range(start, stop))
        if len(self._unreadable) > _FEW:
            self._output(f"{len(self._unreadable)} images could not be read; the answers about them were not learned")

    def _step(self, number: int, readers: Executor) -> Step:
        indices = self._sampler.step(number, self._batch_size)
        chosen = [self._data.get(index) or self._replace(number, place) for place, index in enumerate(indices)]
        targets = sum(1 if sample.rejected else int(sample.targets[1:].sum()) for sample in chosen)
        parts = share_out(make_groups(chosen), self._parts)
        own = parts[self._rank :: self._world]
        return Step(number, [self._collate(part, readers) for part in own], targets)

    def _replace(self, number: int, place: int) -> Sample:
        """A sample in the place of an unusable one. Raises DataError if hardly any conversation is usable."""
        generator = np.random.default_rng((self._seed, number, place))
        for _ in range(1_000):
            if sample := self._data.get(int(generator.integers(len(self._data)))):
                return sample
        raise DataError("hardly any conversation can be used", fix="; ".join(self._data.summary()))

    def _collate(self, groups: Sequence[Group], readers: Executor) -> Batch:
        tokens = image_tokens(groups)
        self._read += len(tokens)
        crops = [one.crops for one in tokens.values()]
        pixels = dict(zip(tokens, readers.map(self._pixels, tokens, crops), strict=True))
        if blank := self._unreadable.intersection(tokens):
            groups = [_without_targets(group, blank) for group in groups]
        if len(self._unreadable) > max(min(_FEW, len(self._data) // 2), self._read // 100):
            some = ", ".join(sorted(blank or self._unreadable))
            fix = "replace them, or remove their records"
            raise DataError(f"{len(self._unreadable)} images cannot be read, among them {some}", fix=fix)
        batch = collate(groups, lambda name, _: pixels[name])
        return batch.pinned() if torch.cuda.is_available() else batch

    def _pixels(self, name: str, crops: int) -> Tensor:
        try:
            return self._images.get(name, crops)
        except DataError as error:
            if name not in self._unreadable and len(self._unreadable) < _FEW:
                self._output(f"its answers are not learned: {error}")
            self._unreadable.add(name)
            return self._images.blank(crops)


def _without_targets(group: Group, blank: set[str]) -> Group:
    """The group, without the targets of samples about one of the `blank` images."""

    def without(sample: Sample) -> Sample:
        return replace(sample, targets=np.zeros_like(sample.targets)) if blank.intersection(sample.images) else sample

    return replace(group, samples=tuple(without(sample) for sample in group.samples))
