"""Random choices by hash: the same for a seed and a thing, whatever came before and in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

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
