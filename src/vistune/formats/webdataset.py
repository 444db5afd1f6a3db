"""WebDataset's tar files: the members of a row share their name up to the first dot and follow each other.

See https://github.com/webdataset/webdataset. Nothing is unpacked.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vistune.errors import VistuneError
from vistune.formats import IMAGE_ENDINGS, Format, Location, OnError, Place, Row, formats, read_slice
from vistune.reading import MOST_BYTES, WRONG_TYPE, parse_json


class TarRecord(NamedTuple):
    """Members of a tar file that follow each other and share their name up to the first dot, the `key`."""

    key: str
    members: list[tarfile.TarInfo]

    @property
    def span(self) -> tuple[int, int]:
        """Where the record begins in the tar file and how many bytes it takes."""
        first, last = self.members[0], self.members[-1]
        blocks = -(-last.size // tarfile.BLOCKSIZE)
        return first.offset, last.offset_data + blocks * tarfile.BLOCKSIZE - first.offset

    def find(self, *endings: str) -> list[tarfile.TarInfo]:
        """The members with one of these endings, upper or lower case."""
        return [member for member in self.members if member.name.lower().endswith(endings)]


@formats.register("webdataset")
class TarShards(Format):
    """The records of a tar file, or of a folder's tar files by name.

    A row is what a record's `.json` holds; the record's images, by name, become `images`.
    """

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._shards = sorted(self._path.glob("*.tar")) if self._path.is_dir() else [self._path]

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith(".tar") or any(Path(path).glob("*.tar"))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        """Every row once, `?` in the place of each image."""
        for number, shard in enumerate(self._shards):
            with self._location.open(shard) as file:
                for record in tar_records(file, shard, self._location.error):
                    try:
                        yield self._row(file, record, (number, *record.span), whole=False)
                    except VistuneError as error:
                        on_error(error)

    def read(self, place: Place) -> Row:
        shard = self._shards[place[0]]
        file = io.BytesIO(read_slice(shard, place))
        [record] = tar_records(file, shard, self._location.error, whole=False)
        return self._row(file, record, place, whole=True)

    def _row(self, file: BinaryIO, record: TarRecord, place: Place, *, whole: bool) -> Row:
        shard = self._shards[place[0]]
        text = next((member for member in record.find(".json") if len(member.name) == len(f"{record.key}.json")), None)
        if text is None:
            what = f"'{record.key}' has no .json"
            raise self._location.error(what, where=str(shard), fix="add it to the tar file; it holds the row's keys")
        where = f"{shard}: record {text.name}"
        values = parse_json(read_member(file, text), where, self._location.error)
        images = sorted(record.find(*IMAGE_ENDINGS), key=lambda member: member.name)
        if images and isinstance(values, dict):
            values["images"] = [read_member(file, image) if whole else b"?" for image in images]
        return Row(values, where, place)


def tar_records(file: BinaryIO, shard: Path, error: type[VistuneError], *, whole: bool = True) -> Iterator[TarRecord]:
    """The records of an open, uncompressed tar file, or of a piece of one if it is not `whole`.

    Raises `error` for one that is broken, or cut off.
    """
    key, found = "", list[tarfile.TarInfo]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                if not 0 <= member.size <= MOST_BYTES:
                    raise tarfile.ReadError(f"'{member.name}' has a size of {member.size:,} bytes")
                folder, slash, name = member.name.rpartition("/")
                stem, dot, _ = name.partition(".")
                if not member.isfile() or not dot:
                    continue
                if found and key != folder + slash + stem:
                    yield TarRecord(key, found)
                    found = []
                key = folder + slash + stem
                found.append(member)
            if whole:
                _check_end(file, tar.offset)
    except (tarfile.TarError, *WRONG_TYPE) as broken:
        fix = "copy it again; if its writer was killed, write it again"
        raise error(f"not a whole tar file: {broken}", where=str(shard), fix=fix) from None
    if found:
        yield TarRecord(key, found)


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise tarfile.ReadError for what `tarfile` takes for the end: a cut, a damaged head, files put together."""
    file.seek(offset)
    if not file.read(1):
        raise tarfile.ReadError("it is cut off: its end is missing")
    file.seek(offset)
    while rest := file.read(2**20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"it is damaged, or goes on after its end, at byte {offset:,}")
        offset += len(rest)


def read_member(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    """The content of a member of that tar file."""
    file.seek(member.offset_data)
    return file.read(member.size)
