"""Judged samples on disk, put there in any order and read in the plan's."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

from vistune.generate.judged import Judged

_UNKNOWN, _NOTHING = -1, -2


class Spool:
    """A file without a name in `folder`, gone with the process; in memory a sample takes 8 bytes."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._end = 0
        self._offsets = array("q")
        self.nothing = 0
        """How many places have no sample."""

    def __contains__(self, place: int) -> bool:
        return place < len(self._offsets) and self._offsets[place] != _UNKNOWN

    def put(self, place: int, judged: Judged | None) -> None:
        """The sample at this place of the plan; None: there is none."""
        if missing := place + 1 - len(self._offsets):
            self._offsets.extend([_UNKNOWN] * max(0, missing))
        if judged is None:
            self._offsets[place] = _NOTHING
            self.nothing += 1
            return
        self._offsets[place] = self._end
        self._end += self._file.write(judged.dump())

    def empty(self, place: int) -> bool:
        """Whether it is known that there is no sample at this place."""
        return self._offsets[place] == _NOTHING

    def __iter__(self) -> Iterator[Judged]:
        """All samples, in the order of their places."""
        self._file.flush()
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for offset in self._offsets:
                if offset >= 0:
                    file.seek(offset)
                    yield Judged.load(file)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
