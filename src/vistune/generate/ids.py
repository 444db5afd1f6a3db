"""That no two records have one id, in eight bytes a record."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from vistune.errors import DataError
from vistune.records import ImageRecord
from vistune.seeded import bits


class Ids:
    """Collects the hashes of the records' ids."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, record_id: str) -> None:
        """Take one more id into account."""
        self._hashes.append(bits(record_id))

    def check(self, records: Iterable[ImageRecord]) -> None:
        """Raises DataError with the first of the `records` whose id another one has."""
        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else np.empty(0, np.uint64)
        hashes.sort()  # in place: the array's own memory
        twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        seen: set[str] = set()
        for record in records if twice else ():
            if bits(record.id) in twice:
                if record.id in seen:
                    raise _second(record, next(other for other in records if other.id == record.id))
                seen.add(record.id)


def _second(record: ImageRecord, first: ImageRecord) -> DataError:
    """The error for two records of one id."""
    if record.image == first.image:
        fix = "rows of one image have to follow each other: sort the file by image, or give each row an id of its own"
    else:
        fix = f"give each an id of its own, in a column 'id', or rename one of {first.image} and {record.image}"
    what = f"a second record has the id '{record.id}'" + (f"; the first is {first.origin}" if first.origin else "")
    return DataError(what, where=record.origin or str(record.image), fix=fix)
