"""Texts as sets of neighbouring word pairs, and short signatures that tell how alike two sets are.

MinHash (Broder 1997) with multiply-add hashing, in NumPy over a batch of texts at a time. Everything is fixed by
constants, so the same texts give the same signatures on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vistune.scene.english import words_of

ROWS, BANDS = 6, 36
"""Values of a band and bands: sets at a Jaccard similarity of 0.7 agree in some band with 98.9 %, at 0.8 with 100 %."""
SKETCH = 64
"""The bytes of a sketch; the share of those in which two sets agree is about their similarity."""

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class _Hashes(dict[str, int]):
    """The hash of each word; of the frequent ones worked out once."""

    def __missing__(self, word: str) -> int:
        value = crc32(word.encode("utf-8", "surrogatepass"))
        if len(self) < 1 << 17:
            self[word] = value
        return value


@dataclass(frozen=True, slots=True)
class Batch:
    """`N` texts in numbers; those of too few words have no pairs, and hashes that nothing agrees with.

    `pairs` are the sets of all texts, one after the other, each sorted; `sizes` (N) how many are each text's. `bands`
    (N, BANDS), `sketch` (N, SKETCH), and `exact` (N), the hash of all words in order.
    """

    pairs: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    bands: NDArray[np.uint32]
    sketch: NDArray[np.uint8]
    exact: NDArray[np.uint64]


class Hasher:
    """Turns texts into batches; texts of fewer than `least` words count as unlike all others."""

    def __init__(self, least: int) -> None:
        self.least = max(least, 2)
        self._hashes = _Hashes()
        # numpy.random would take longer to import than all this
        drawn = _mix(np.arange(1, 1 + 2 * ROWS * BANDS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        factors, terms = np.split((drawn >> _HALF).astype(np.uint32), 2)
        self._factors, self._terms = factors | np.uint32(1), terms

    def batch(self, texts: Sequence[str], first: int) -> Batch:
        """The texts in numbers; `first` is the number of the first one, which makes hashes of short texts differ."""
        words = [words_of(text.lower()) for text in texts]
        words = [some if len(some) >= self.least else [] for some in words]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        total = int(lengths.sum())
        flat = np.fromiter(map(self._hashes.__getitem__, chain.from_iterable(words)), np.uint64, total)
        owner = np.repeat(np.arange(len(words), dtype=np.uint64), lengths)
        pairs, sizes = _pairs(flat, owner, len(words))
        alone = _mix(np.arange(first, first + len(words), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        exact = np.where(lengths > 0, _in_order(flat, lengths), alone)
        values = self._values(pairs, sizes, alone)
        return Batch(pairs, sizes, _bands(values), values[:SKETCH].astype(np.uint8).T.copy(), exact)

    def _values(
        self, pairs: NDArray[np.uint32], sizes: NDArray[np.int64], alone: NDArray[np.uint64]
    ) -> NDArray[np.uint32]:
        """The least hash of each text's pairs under each function (functions, N)."""
        values = np.empty((len(self._factors), len(sizes)), np.uint32)
        some = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[some]
        values[:, ~some] = alone[~some].astype(np.uint32)
        if not len(starts):
            return values
        hashed = np.empty_like(pairs)
        for row, factor, term in zip(values, self._factors, self._terms, strict=True):
            np.multiply(pairs, factor, out=hashed)
            hashed += term
            row[some] = np.minimum.reduceat(hashed, starts)
        return values


def _pairs(
    flat: NDArray[np.uint64], owner: NDArray[np.uint64], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Each text's set of hashed pairs of neighbouring words, sorted, and its size."""
    both = owner[1:] == owner[:-1]
    hashed = _mix(flat[:-1] * np.uint64(0x9E3779B97F4A7C15) + flat[1:] * np.uint64(0xC2B2AE3D27D4EB4F)) >> _HALF
    keys = np.sort((owner[1:] << _HALF | hashed)[both])
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys
    sizes = np.bincount((keys >> _HALF).astype(np.int64), minlength=count)
    return (keys & _LOW).astype(np.uint32), sizes


def _in_order(flat: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each text's words in their order."""
    ends = np.cumsum(lengths)
    place = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    sums = np.zeros(len(flat) + 1, np.uint64)
    np.cumsum(_mix((place.astype(np.uint64) << _HALF) + flat), out=sums[1:])
    hashed: NDArray[np.uint64] = sums[ends] - sums[ends - lengths]
    return hashed


def _bands(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The values (functions, N) of each band as one hash (N, BANDS)."""
    grouped = values.reshape(BANDS, ROWS, -1)
    hashed = np.zeros((BANDS, values.shape[1]), np.uint64)
    for row in range(ROWS):
        hashed = _mix(hashed * np.uint64(31) + grouped[:, row])
    bands: NDArray[np.uint32] = (hashed >> _HALF).astype(np.uint32).T.copy()
    return bands


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ values >> np.uint64(31)
    return mixed
