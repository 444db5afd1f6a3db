"""Texts that say what an earlier one has said: exactly, or nearly so.

Exactly: the same words in the same order, whatever the case and the punctuation. Nearly: the sets of their pairs of
neighbouring words have a Jaccard similarity of at least 0.7 (of 60 words, four or five differ). What may be alike is
found by locality-sensitive hashing and then compared pair by pair, so nothing is called a duplicate that is none; a
text is one only of an earlier text, so the first always stays.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from vistune.generate.minhash import BANDS, SKETCH, Hasher

THRESHOLD = 0.7
LEAST_WORDS = 20
"""Shorter texts are not judged: a rule or a yes-or-no question gives the same one to many images, and rightly so."""

_BATCH = 1 << 12
_CHUNK = 1 << 16  # how many are compared at a time
_READ = 1 << 20  # so many pairs between those that are wanted may be read with them
_NEIGHBOURS = 4  # of those that agree in a band, with how many before it each is compared, and with the first
_SURE = 0.15  # how far a sketch's estimate may lie below the similarity: 2.6 standard deviations
_COLUMNS = BANDS + 2  # and both halves of the exact hash
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@dataclass(frozen=True, slots=True)
class Found:
    """For each text, in the order of adding, whether it repeats an earlier one exactly, and at least nearly."""

    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]


class Duplicates:
    """Add texts in their order, then ask which repeat an earlier one.

    Signatures lie in unnamed files in `folder` (about 450 bytes for a text of 60 words); in memory a text takes 8
    bytes while they are added and 18 while they are compared.
    """

    def __init__(self, folder: Path, *, threshold: float = THRESHOLD, least_words: int = LEAST_WORDS) -> None:
        self._threshold = threshold
        self._hasher = Hasher(least_words)
        self._waiting: list[str] = []
        self._ends = array("q", [0])
        self._pairs, self._columns, self._sketches = (tempfile.TemporaryFile(dir=folder) for _ in range(3))  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._pairs, self._columns, self._sketches):
            file.close()

    def add(self, text: str) -> None:
        """The next text."""
        self._waiting.append(text)
        if len(self._waiting) == _BATCH:
            self._write()

    def found(self) -> Found:
        """Which of the texts added so far repeat an earlier one."""
        self._write()
        for file in (self._pairs, self._columns, self._sketches):
            file.flush()
        count = len(self._ends) - 1
        exact, near = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        if count:
            self._find_exact(exact)
            near |= exact
            self._find_near(near)
        return Found(exact, near)

    def _write(self) -> None:
        if not self._waiting:
            return
        batch = self._hasher.batch(self._waiting, len(self._ends) - 1)
        self._waiting.clear()
        self._ends.extend((self._ends[-1] + np.cumsum(batch.sizes)).tolist())
        halves = np.stack((batch.exact & _LOW, batch.exact >> _HALF)).astype(np.uint32)
        batch.pairs.tofile(self._pairs)
        np.concatenate((batch.bands.T, halves)).tofile(self._columns)
        batch.sketch.tofile(self._sketches)

    def _column(self, column: int) -> Iterator[NDArray[np.uint32]]:
        """One value a text, batch by batch; the columns of a batch lie one after the other in the file."""
        count = len(self._ends) - 1
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            place = 4 * (first * _COLUMNS + column * size)
            yield np.frombuffer(_read(self._columns, place, 4 * size), np.uint32)

    def _sorted(self, column: int) -> NDArray[np.uint64]:
        """The column's values with the text's number in the low half, sorted: equal values stand together, in order."""
        values = np.empty(len(self._ends) - 1, np.uint64)
        first = 0
        for part in self._column(column):
            values[first : first + len(part)] = part
            first += len(part)
        values <<= _HALF
        values |= np.arange(len(values), dtype=np.uint32)
        values.sort()
        return values

    def _find_exact(self, exact: NDArray[np.bool_]) -> None:
        values = self._sorted(BANDS)
        other = np.concatenate(list(self._column(BANDS + 1)))
        for _, run in _runs(values):
            seen: set[int] = set()
            for number in run:
                exact[number] = (rest := int(other[number])) in seen
                seen.add(rest)

    def _find_near(self, near: NDArray[np.bool_]) -> None:
        waiting, count = [np.empty(0, np.int64)], 0
        for band in range(BANDS):
            for earlier, later in _candidates(self._sorted(band)):
                open_ones = ~near[later]
                waiting.append(earlier[open_ones] << 32 | later[open_ones])
                count += len(waiting[-1])
                if count >= _BATCH:
                    self._compare(np.concatenate(waiting), near)
                    waiting, count = waiting[:1], 0
        self._compare(np.concatenate(waiting), near)

    def _compare(self, pairs: NDArray[np.int64], near: NDArray[np.bool_]) -> None:
        """Compare pairs of texts, the earlier in the high half; many agree in more than one band."""
        pairs = np.unique(pairs)
        earlier, later = pairs >> 32, pairs & 0xFFFFFFFF
        agree = np.count_nonzero(self._sketch(earlier) == self._sketch(later), axis=1)
        likely = agree >= (self._threshold - _SURE) * SKETCH
        earlier, later = earlier[likely], later[likely]
        for first in range(0, len(later), _BATCH):  # their sets take a kilobyte a pair
            some = slice(first, first + _BATCH)
            near[later[some][self._similar(earlier[some], later[some])]] = True

    def _sketch(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The sketches of these texts (N, SKETCH); read, for pages of a mapped file count as memory."""
        order = np.argsort(numbers, kind="stable")
        sorted_, found = numbers[order], np.empty((len(numbers), SKETCH), np.uint8)
        blocks = sorted_ // _BATCH
        for block in np.unique(blocks):
            start, end = np.searchsorted(blocks, (block, block + 1))
            raw = _read(self._sketches, int(block) * _BATCH * SKETCH, _BATCH * SKETCH)
            part = np.frombuffer(raw, np.uint8).reshape(-1, SKETCH)
            found[order[start:end]] = part[sorted_[start:end] - block * _BATCH]
        return found

    def _similar(self, earlier: NDArray[np.int64], later: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the sets of pairs of two texts each are as similar as the threshold says."""
        if not len(earlier):
            return np.zeros(0, np.bool_)
        sides = [self._sets(numbers) for numbers in (earlier, later)]
        keys = np.sort(np.concatenate([keys for keys, _ in sides]), kind="stable")  # merges what is sorted
        common = np.bincount((keys[1:][keys[1:] == keys[:-1]] >> _HALF).astype(np.int64), minlength=len(earlier))
        either = sides[0][1] + sides[1][1] - common
        similar: NDArray[np.bool_] = (common >= self._threshold * either) & (either > 0)
        return similar

    def _sets(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The pairs of these texts, each with the text's place among them in the high half, and their counts."""
        texts, which = np.unique(numbers, return_inverse=True)
        pairs, starts, sizes = self._pairs_of(texts)
        starts, sizes = starts[which], sizes[which]
        place = np.repeat(np.arange(len(numbers), dtype=np.uint64), sizes)
        at = np.arange(len(place)) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        return place << _HALF | pairs[at], sizes

    def _pairs_of(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of these texts, which are sorted, with others between; where each one's begin, and their counts."""
        bounds = np.frombuffer(self._ends, np.int64)
        starts, ends = bounds[texts], bounds[texts + 1]
        far = np.flatnonzero(starts[1:] - ends[:-1] > _READ // len(texts))  # what is near each other is read at once
        first, last = np.append(0, far + 1), np.append(far, len(texts) - 1)
        lengths = ends[last] - starts[first]
        parts = zip(starts[first].tolist(), lengths.tolist(), strict=True)
        raw = b"".join(_read(self._pairs, 4 * start, 4 * length) for start, length in parts)
        moved = np.repeat(np.cumsum(lengths) - lengths - starts[first], last - first + 1)
        return np.frombuffer(raw, np.uint32), starts + moved, ends - starts


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, start)


def _runs(values: NDArray[np.uint64]) -> Iterator[tuple[int, list[int]]]:
    """The numbers that share a value, for every value that more than one has."""
    same = (values[1:] >> _HALF) == (values[:-1] >> _HALF)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        yield int(values[start] >> _HALF), (values[start : end + 1] & _LOW).astype(np.int64).tolist()


def _candidates(values: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of numbers, the smaller first, that share a value: each with some before it, and with the first."""
    start = 0
    for low in range(0, len(values), _CHUNK):
        chunk = values[max(low - _NEIGHBOURS, 0) : low + _CHUNK]
        keys, numbers = chunk >> _HALF, (chunk & _LOW).astype(np.int64)
        fresh = min(low, _NEIGHBOURS)
        for step in range(1, _NEIGHBOURS + 1):
            same = np.flatnonzero(keys[step:] == keys[:-step])
            same = same[same + step >= fresh]
            yield numbers[same], numbers[same + step]
        begins = np.concatenate(([True], keys[1:] != keys[:-1]))
        if fresh:
            begins[0] = False
        place = np.arange(len(chunk)) + (low - fresh)
        first = np.maximum.accumulate(np.where(begins, place, start))
        far = np.flatnonzero((place - first > _NEIGHBOURS) & (place >= low))
        yield (values[first[far]] & _LOW).astype(np.int64), numbers[far]
        start = int(first[-1])
