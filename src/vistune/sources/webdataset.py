"""WebDataset's tar files: an image and its texts share their name up to the first dot. Nothing is unpacked.

See https://github.com/webdataset/webdataset; img2dataset writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vistune.errors import AnnotationError
from vistune.formats import IMAGE_ENDINGS, OnError
from vistune.formats.webdataset import TarRecord, TarShards, read_member, tar_records
from vistune.reading import not_utf8, open_file
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._reading import Source
from vistune.sources._rows import json_captions, text_captions
from vistune.sources._splits import image_places, no_split

_TEXTS = (".txt", ".caption", ".cap")


@sources.register("webdataset")
class WebDataset(Source):
    """A tar file, or a folder's tar files by name; `split` is the sub-folder that they are in.

    Captions are the lines of a text member, or without one, what the `.json` has under a usual name. An image's path
    is its name in the tar file.
    """

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train",  # noqa: ARG002
        images: Path | None = None,
    ) -> None:  # fmt: skip
        path = contents.path
        folder = path / (split or "")
        if split and not folder.is_dir():
            raise no_split(split, [one.name for one in path.iterdir() if one.is_dir()] if path.is_dir() else [], path)
        self._shards = sorted(folder.glob("*.tar")) if folder.is_dir() else [path]
        if not self._shards:
            raise AnnotationError(
                "there are no tar files in this folder", where=str(folder), fix="name a tar file, or a folder of them"
            )
        self.images = images or (folder if folder.is_dir() else path.parent)
        self.places = image_places(self.images)
        next(_records(self._shards[0]), None)

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        return contents.path.exists() and TarShards.fits(str(contents.path))

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for shard in self._shards:
            for file, record in _records(shard):
                try:
                    yield self._draft(file, record, f"{shard}: record {record.key}")
                except AnnotationError as error:
                    on_error(error)

    def _draft(self, file: BinaryIO, record: TarRecord, where: str) -> Draft:
        images = record.find(*IMAGE_ENDINGS)
        if not images:
            fix = "add the image to the tar file, or take the texts of that name out"
            raise AnnotationError("it has no image", where=where, fix=fix)
        return Draft(record.key, (images[0].name,), where, captions=_captions(file, record, where))


def _records(shard: Path) -> Iterator[tuple[BinaryIO, TarRecord]]:
    """The records of a tar file, which stays open until the next one is taken."""
    with open_file(shard, AnnotationError) as file:
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
