"""Random choices by hash: the same for a seed and a thing, whatever came before and in whatever order."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def bits(*key: object) -> int:
    """64 bits that depend on all of `key`."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass")).digest()[:8])


def fraction(*key: object) -> float:
    """A number from 0 to below 1, uniform over keys (53 bits, which a float holds exactly)."""
    return (bits(*key) >> 11) / 2**53


def pick(items: Sequence[T], *key: object) -> T:
    """One of `items`."""
    return items[int(fraction(*key) * len(items))]


class HashSample(Generic[T]):
    """The `most` things whose names, with `key`, have the smallest hashes: a uniform sample without replacement."""

    def __init__(self, most: int, key: str = "") -> None:
        self._most, self._key = most, key
        self._heap: list[tuple[int, str, T]] = []

    def add(self, name: str, thing: T) -> None:
        """Take the thing into the sample if its hash is small enough."""
        rank = -bits(self._key, name)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (rank, name, thing))
        elif self._heap and rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (rank, name, thing))

    def items(self) -> list[T]:
        """What is in the sample, in the order of the hashes."""
        return [thing for _, _, thing in sorted(self._heap, key=lambda one: (-one[0], one[1]))]
