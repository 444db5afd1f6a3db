"""Texts that repeat an earlier one: exactly, or nearly so.

Exactly: the same words in the same order, whatever the case and the punctuation. Nearly: the sets of their pairs of
neighbouring words have a Jaccard similarity of at least 0.7 (of 60 words, four or five differ). Candidates come from
MinHash (Broder 1997) with locality-sensitive hashing and are then compared exactly: no text is marked wrongly, and of
those at a similarity of 0.7 about one in a hundred is missed. All hashes are fixed by constants: the same texts get the
same marks on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vistune.scene.english import words_of

Mark = Literal["", "duplicate", "near_duplicate"]

THRESHOLD = 0.7
LEAST_WORDS = 20
"""Shorter texts are never marked: a rule or a yes-or-no question rightly gives the same one to many images."""
ROWS, BANDS = 6, 36
"""Hashes of a band, and bands: sets at a similarity of 0.7 agree in some band with 98.9 %, at 0.8 with 100 %."""
SKETCH = 64
"""Bytes of a sketch; the share of those in which two sets agree estimates their similarity."""

_MARGIN = 0.15  # how far a sketch's estimate may lie below the similarity: 2.6 standard deviations
_NEIGHBOURS = 4  # each text is compared with so many before it of those that agree in a band, and with the first
_CHUNK = 4096  # pairs of texts compared at once, at about a kilobyte each
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Words = NDArray[np.uint64]
"""The hashes of the words of all texts, one after the other."""


class Deduplicator:
    """Marks texts that repeat an earlier one, across calls; it holds about 800 bytes for a text of 60 words."""

    def __init__(self) -> None:
        self._exact: set[int] = set()
        self._sets: list[NDArray[np.uint32]] = []  # of each text that is no exact copy, its pairs of words, sorted
        self._sketches = np.empty((0, SKETCH), np.uint8)
        self._bands = [np.empty(0, np.uint64)] * BANDS  # (hash << 32 | number of the text), sorted
        drawn = _mix(np.arange(1, 1 + 2 * ROWS * BANDS, dtype=np.uint64) * _GOLDEN) >> _HALF
        factors, self._terms = np.split(drawn.astype(np.uint32), 2)
        self._factors = factors | np.uint32(1)

    def mark(self, texts: Sequence[str]) -> list[Mark]:
        """For each text, in order, whether it repeats one of an earlier call or one before it. Best in thousands."""
        marks: list[Mark] = [""] * len(texts)
        words = [words_of(text.lower()) for text in texts]
        judged = [number for number, some in enumerate(words) if len(some) >= LEAST_WORDS]
        flat, lengths = _hashed([words[number] for number in judged])
        new = np.zeros(len(judged), np.bool_)
        for place, exact in enumerate(_in_order(flat, lengths).tolist()):
            new[place] = exact not in self._exact
            self._exact.add(exact)
            marks[judged[place]] = "" if new[place] else "duplicate"
        near = self._add(flat[np.repeat(new, lengths)], lengths[new])
        for place in np.flatnonzero(new)[near]:
            marks[judged[place]] = "near_duplicate"
        return marks

    def _add(self, flat: Words, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Add texts; whether each nearly repeats an earlier one."""
        if not len(lengths):
            return np.zeros(0, np.bool_)
        first = len(self._sets)
        pairs, sizes = _pairs(flat, lengths)
        self._sets += np.split(pairs, np.cumsum(sizes)[:-1])
        values = self._minima(pairs, sizes)
        self._sketches = np.concatenate((self._sketches, values[:SKETCH].astype(np.uint8).T))
        candidates = np.unique(np.concatenate(list(self._candidates(values, first))))
        earlier, later = (candidates >> _HALF).astype(np.int64), (candidates & _LOW).astype(np.int64)
        near = np.zeros(len(lengths), np.bool_)
        for start in range(0, len(later), _CHUNK):
            some = slice(start, start + _CHUNK)
            near[later[some][self._similar(earlier[some], later[some])] - first] = True
        return near

    def _minima(self, pairs: NDArray[np.uint32], sizes: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The least hash of each of N sets under each function (ROWS * BANDS, N)."""
        starts, hashed = np.cumsum(sizes) - sizes, np.empty_like(pairs)
        values = np.empty((len(self._factors), len(sizes)), np.uint32)
        for row, factor, term in zip(values, self._factors, self._terms, strict=True):
            np.multiply(pairs, factor, out=hashed)
            hashed += term
            row[:] = np.minimum.reduceat(hashed, starts)
        return values

    def _candidates(self, values: NDArray[np.uint32], first: int) -> Iterator[NDArray[np.uint64]]:
        """Enter the texts from number `first` on in all bands; those to compare, as (earlier << 32 | later)."""
        numbers = np.arange(first, first + values.shape[1], dtype=np.uint64)
        for band, rows in enumerate(values.reshape(BANDS, ROWS, -1)):
            hashed = np.zeros(len(numbers), np.uint64)
            for row in rows:
                hashed = _mix(hashed * np.uint64(31) + row)
            keys = hashed & ~_LOW | numbers
            entries = np.sort(np.concatenate((self._bands[band], keys)), kind="stable")  # merges what is sorted
            self._bands[band] = entries
            place = np.searchsorted(entries, keys)
            run = np.searchsorted(entries, keys & ~_LOW)  # where the texts with this hash begin
            for before in (run, *(place - step for step in range(1, _NEIGHBOURS + 1))):
                some = (before >= run) & (before < place)
                yield (entries[before[some]] & _LOW) << _HALF | numbers[some]

    def _similar(self, earlier: NDArray[np.int64], later: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each pair of texts has the similarity; a pair whose sketches differ too much is not compared."""
        similar = np.zeros(len(later), np.bool_)
        agree = np.count_nonzero(self._sketches[earlier] == self._sketches[later], axis=1)
        likely = np.flatnonzero(agree >= (THRESHOLD - _MARGIN) * SKETCH)
        sides = [[self._sets[number] for number in numbers[likely]] for numbers in (earlier, later)]
        sizes = np.array([[len(one) for one in side] for side in sides], np.int64).reshape(2, -1)
        place = np.tile(np.arange(len(likely), dtype=np.uint64), 2).repeat(sizes.ravel())
        keys = np.sort(place << _HALF | np.concatenate([np.empty(0, np.uint32), *chain(*sides)]), kind="stable")
        twice = keys[1:][keys[1:] == keys[:-1]] >> _HALF
        common = np.bincount(twice.astype(np.int64), minlength=len(likely))
        similar[likely] = common >= THRESHOLD * (sizes.sum(axis=0) - common)
        return similar


def _hashed(texts: Sequence[Sequence[str]]) -> tuple[Words, NDArray[np.int64]]:
    """The words of all texts as hashes, and how many each text has (N)."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    hashes = (crc32(word.encode("utf-8", "surrogatepass")) for word in chain.from_iterable(texts))
    return np.fromiter(hashes, np.uint64, int(lengths.sum())), lengths


def _in_order(flat: Words, lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each text's words in their order (N)."""
    ends = np.cumsum(lengths)
    place = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    sums = np.zeros(len(flat) + 1, np.uint64)
    np.cumsum(_mix((place.astype(np.uint64) << _HALF) + flat), out=sums[1:])
    hashed: NDArray[np.uint64] = sums[ends] - sums[ends - lengths]
    return hashed


def _pairs(flat: Words, lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Each text's set of hashed pairs of neighbouring words, sorted, one set after the other, and their sizes (N)."""
    owner = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    hashed = _mix(flat[:-1] * _GOLDEN + flat[1:] * np.uint64(0xC2B2AE3D27D4EB4F)) >> _HALF
    keys = np.sort((owner[1:] << _HALF | hashed)[owner[1:] == owner[:-1]])
    keys = keys[np.insert(keys[1:] != keys[:-1], 0, True)]  # np.unique takes several times as long
    return (keys & _LOW).astype(np.uint32), np.bincount((keys >> _HALF).astype(np.int64), minlength=len(lengths))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ values >> np.uint64(31)
    return mixed
