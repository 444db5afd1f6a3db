"""A sample of things by the hash of their names: the same whatever the order, and of bounded size."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from vistune.generate.draw import bits

T = TypeVar("T")


class HashSample(Generic[T]):
    """The `most` things whose names, with `key`, have the smallest hashes: a uniform sample without replacement."""

    def __init__(self, most: int, key: str = "") -> None:
        self._most, self._key = most, key
        self._heap: list[tuple[int, str, T]] = []

    def add(self, name: str, make: Callable[[], T]) -> None:
        """Take the thing into the sample if its hash is small enough; only then it is made."""
        rank = -bits(self._key, name)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (rank, name, make()))
        elif self._heap and rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (rank, name, make()))

    def __len__(self) -> int:
        return len(self._heap)

    def items(self) -> list[T]:
        """What is in the sample, in the order of the hashes."""
        return [thing for _, _, thing in sorted(self._heap, key=lambda one: (-one[0], one[1]))]
