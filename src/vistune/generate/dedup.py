"""Texts that repeat an earlier one: exactly, or nearly so.

Exactly: the same words in the same order, whatever the case and the punctuation. Nearly: the sets of their pairs of
neighbouring words have a Jaccard similarity of at least 0.7 (of 60 words, four or five differ). Candidates come from
MinHash (Broder 1997) with locality-sensitive hashing and are then compared exactly: no text is marked wrongly, and of
those at a similarity of 0.7 about one in a hundred is missed. All hashes are fixed by constants: the same texts get the
same marks on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vistune.scene.english import words_of
from vistune.seeded import bits

Mark = Literal["", "duplicate", "near_duplicate"]

THRESHOLD = 0.7
LEAST_WORDS = 20
"""Shorter texts are never marked: a rule or a yes-or-no question rightly gives the same one to many images."""
ROWS, BANDS = 6, 36
"""Hashes of a band, and bands: sets at a similarity of 0.7 agree in some band with 98.9 %, at 0.8 with 100 %."""

_NEIGHBOURS = 4  # each text is compared with this number before it of those that agree in a band, and with the first
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

Pairs = NDArray[np.uint32]
"""The set of a text's pairs of neighbouring words, as hashes, sorted."""


class Deduplicator:
    """Marks texts that repeat an earlier one, across calls; it holds about 750 bytes for a text of 60 words."""

    def __init__(self) -> None:
        self._exact: set[int] = set()
        self._sets: list[Pairs] = []  # of each text that is no exact copy
        self._bands = [np.empty(0, np.uint64)] * BANDS  # (hash << 32 | number of the text), sorted
        numbers = np.arange(1, 1 + 2 * ROWS * BANDS, dtype=np.uint64)
        drawn = _mix(numbers * np.uint64(0x9E3779B97F4A7C15)) >> _HALF
        factors, self._terms = np.split(drawn.astype(np.uint32), 2)
        self._factors = factors | np.uint32(1)

    def mark(self, texts: Sequence[str]) -> list[Mark]:
        """For each text, in order, whether it repeats one of an earlier call or one before it. Best in thousands."""
        marks: list[Mark] = [""] * len(texts)
        first, places = len(self._sets), []
        for place, text in enumerate(texts):
            words = words_of(text.lower())
            if len(words) < LEAST_WORDS:
                continue
            if (exact := bits(*words)) in self._exact:
                marks[place] = "duplicate"
                continue
            self._exact.add(exact)
            places.append(place)
            self._sets.append(_pairs(words))
        for number in self._near(first) if places else ():
            marks[places[number - first]] = "near_duplicate"
        return marks

    def _near(self, first: int) -> set[int]:
        """The numbers of the texts from `first` on that nearly repeat an earlier one."""
        candidates = np.unique(np.concatenate(list(self._candidates(self._minima(self._sets[first:]), first))))
        near: set[int] = set()
        for earlier, later in zip((candidates >> _HALF).tolist(), (candidates & _LOW).tolist(), strict=True):
            if later not in near and _similarity(self._sets[earlier], self._sets[later]) >= THRESHOLD:
                near.add(later)
        return near

    def _minima(self, sets: Sequence[Pairs]) -> NDArray[np.uint32]:
        """The least hash of each of N sets under each function (ROWS * BANDS, N)."""
        flat, starts = np.concatenate(sets), np.cumsum([0, *map(len, sets[:-1])])
        functions = zip(self._factors, self._terms, strict=True)
        return np.stack([np.minimum.reduceat(flat * factor + term, starts) for factor, term in functions])

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


def _pairs(words: Sequence[str]) -> Pairs:
    hashes = (crc32(f"{one} {other}".encode("utf-8", "surrogatepass")) for one, other in pairwise(words))
    # crc32 is linear: without mixing, the minima under the functions are not independent
    return np.unique(_mix(np.fromiter(hashes, np.uint64)).astype(np.uint32))


def _similarity(one: Pairs, other: Pairs) -> float:
    both = np.sort(np.concatenate((one, other)))
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ values >> np.uint64(31)
    return mixed
