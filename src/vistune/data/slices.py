"""Pieces of a large file by their number, from a table of where each lies."""

from __future__ import annotations

from array import array
from pathlib import Path


class Slices:
    """The pieces of one file, of which only the places are kept: 16 bytes each.

    They are read, not mapped, so that the memory of a process does not grow with what it has read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets, self._lengths = array("q"), array("q")

    def add(self, offset: int, length: int) -> None:
        """Enter the next piece."""
        self._offsets.append(offset)
        self._lengths.append(length)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, number: int) -> bytes:
        return self._read(self._offsets[number], self._lengths[number])

    def before(self, number: int, length: int) -> bytes:
        """So many bytes before a piece."""
        return self._read(self._offsets[number] - length, length)

    def _read(self, offset: int, length: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)
