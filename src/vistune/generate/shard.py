"""A part of the images for each of several machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vistune.errors import VistuneError
from vistune.records import ImageRecord
from vistune.seeded import bits


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts, from 1. Which part an image is in depends on its id alone."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard from `I/N`. Raises VistuneError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise VistuneError(f"'{text}' is no shard", fix="give I/N with I from 1 to N, e.g. 2/7")
        return cls(int(found[1]), int(found[2]))

    def has(self, record: ImageRecord) -> bool:
        """Whether the image is in this part."""
        return bits(record.id, "shard") % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class Part:
    """The records of a shard; re-iterable as the records are."""

    records: Iterable[ImageRecord]
    shard: Shard

    def __iter__(self) -> Iterator[ImageRecord]:
        return filter(self.shard.has, self.records)
