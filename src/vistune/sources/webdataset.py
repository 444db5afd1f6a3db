"""WebDataset's tar files: an image and its texts share their name up to the first dot. Nothing is unpacked.

See https://github.com/webdataset/webdataset; img2dataset writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vistune.errors import AnnotationError
from vistune.formats import IMAGE_ENDINGS, not_utf8
from vistune.formats.webdataset import TarRecord, TarShards, read_member, tar_records
from vistune.records import ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, no_split
from vistune.sources._rows import json_captions, text_captions

_TEXTS = (".txt", ".caption", ".cap")


@sources.register("webdataset")
class WebDataset(Stream):
    """A tar file, or a folder's tar files by name; `split` is the sub-folder that they are in.

    Captions are the lines of a text member, or without one, what the `.json` has under a usual name. An image's path
    is its name in the tar file.
    """

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        super().__init__(path, split, on_error=on_error)
        folder = path / (split or "")
        if split and not folder.is_dir():
            raise no_split(split, [one.name for one in path.iterdir() if one.is_dir()] if path.is_dir() else [], path)
        self._shards = sorted(folder.glob("*.tar")) if folder.is_dir() else [path]
        if not self._shards:
            raise AnnotationError("there are no tar files in this folder", where=str(folder))
        self.images = folder if folder.is_dir() else path.parent
        next(_records(self._shards[0]), None)

    @staticmethod
    def fits(path: Path) -> bool:
        return path.exists() and TarShards.fits(str(path))

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        for shard in self._shards:
            for file, record in _records(shard):
                try:
                    yield self._record(file, record, f"{shard}: record {record.key}")
                except AnnotationError as error:
                    on_error(error)

    def _record(self, file: BinaryIO, record: TarRecord, where: str) -> ImageRecord:
        images = record.find(*IMAGE_ENDINGS)
        if not images:
            fix = "add the image to the tar file, or take the texts of that name out"
            raise AnnotationError("it has no image", where=where, fix=fix)
        return ImageRecord(record.key, self.images / images[0].name, 0, 0, _captions(file, record, where), (), where)


def _records(shard: Path) -> Iterator[tuple[BinaryIO, TarRecord]]:
    """The records of a tar file, which stays open until the next one is taken."""
    with shard.open("rb") as file:
        for record in tar_records(file, shard, AnnotationError):
            yield file, record


def _captions(file: BinaryIO, record: TarRecord, where: str) -> tuple[str, ...]:
    for endings, parse in ((_TEXTS, lambda text, _: text_captions(text)), ((".json",), json_captions)):
        for member in record.find(*endings):
            ending = member.name[len(record.key) :]
            try:
                text = read_member(file, member).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise not_utf8(error, f"{where}{ending}", AnnotationError) from None
            return parse(text, where)
    return ()
