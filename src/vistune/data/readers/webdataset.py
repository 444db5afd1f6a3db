"""WebDataset: tar files in which a record is a `.json` and the images that share its name up to the first dot."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.data.readers import read_error, readers
from vistune.data.slices import Slices
from vistune.errors import DataError
from vistune.formats.tar import IMAGES, Member, tar_records
from vistune.recipe.training import DataRecipe


@readers.register("webdataset")
class WebDataset:
    """The records of a tar file, or of a folder's tar files; nothing is unpacked, only each member's place is kept.

    A record's images are its image members, by name; without any, those that the JSON names are files.
    """

    chooses: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: DataRecipe) -> None:
        path = Path(data.path)
        self._shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        self._members = [Slices(shard) for shard in self._shards]  # a record's JSON, then its images
        self._first, self._count, self._shard = array("q"), array("i"), array("i")  # (n), for each record

    @staticmethod
    def reads(path: str) -> bool:
        """By the file's ending, or the folder's files."""
        return path.lower().endswith(".tar") or any(Path(path).glob("*.tar"))

    def scan(self) -> Iterator[Any]:
        """Every record once; of the images, one byte stands for the content."""
        for number, (shard, members) in enumerate(zip(self._shards, self._members, strict=True)):
            for key, found in _records(shard):
                images = sorted(member for member in found if member[0].lower().endswith(IMAGES))
                text = next((member for member in found if member[0].lower() == ".json"), None)
                if text is None:
                    raise DataError(f"'{key}' has no .json", where=str(shard), fix="it holds the conversation")
                self._first.append(len(members))
                self._count.append(len(images))
                self._shard.append(number)
                for _, offset, length in (text, *images):
                    members.add(offset, length)
                yield self._row(len(self._first) - 1, [b"?"] * len(images))

    def __getitem__(self, number: int) -> Any:
        members, first = self._members[self._shard[number]], self._first[number] + 1
        return self._row(number, [members[place] for place in range(first, first + self._count[number])])

    def where(self, number: int) -> str:
        """The tar file and the JSON's name."""
        shard = self._shard[number]
        header = self._members[shard].before(self._first[number], tarfile.BLOCKSIZE)
        name = tarfile.TarInfo.frombuf(header, "utf-8", "replace").name
        return f"{self._shards[shard]}: record {name}"

    def _row(self, number: int, images: list[bytes]) -> Any:
        try:
            row = json.loads(self._members[self._shard[number]][self._first[number]])
        except ValueError as error:
            raise DataError(f"not valid JSON: {error}", where=self.where(number)) from None
        return {**row, "images": images} if images and isinstance(row, dict) else row


def _records(shard: Path) -> Iterator[tuple[str, list[Member]]]:
    try:
        yield from tar_records(shard, DataError)
    except OSError as error:
        raise read_error(shard, error) from None
