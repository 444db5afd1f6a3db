"""WebDataset's tar files: an image and its texts share their name up to the first dot. Nothing is unpacked.

See https://github.com/webdataset/webdataset; img2dataset writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vistune.errors import AnnotationError
from vistune.formats.tar import IMAGES, Member, tar_records
from vistune.records import ImageRecord
from vistune.scene.context import one_line
from vistune.sources import OnError, no_split, sources, stop
from vistune.sources.sidecar import json_captions
from vistune.sources.stream import Stream, not_utf8

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
        next(tar_records(self._shards[0], AnnotationError), None)

    @staticmethod
    def fits(path: Path) -> bool:
        """By the ending, or the folder's files."""
        return (path.is_file() and path.suffix.lower() == ".tar") or (
            path.is_dir() and next(path.glob("*.tar"), None) is not None
        )

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        for shard in self._shards:
            with shard.open("rb") as content:
                for key, members in tar_records(shard, AnnotationError):
                    where = f"{shard}: record {key}"
                    image = next((rest for rest, _, _ in members if rest.lower().endswith(IMAGES)), None)
                    try:
                        if image is None:
                            raise AnnotationError(
                                "it has no image",
                                where=where,
                                fix="add the image to the tar file, or take the texts of that name out",
                            )
                        captions = _captions(content, members, where)
                    except AnnotationError as error:
                        on_error(error)
                        continue
                    yield ImageRecord(key, self.images / f"{key}{image}", 0, 0, captions, (), where)


def _captions(content: BinaryIO, members: list[Member], where: str) -> tuple[str, ...]:
    for endings in (_TEXTS, (".json",)):
        for rest, offset, length in members:
            if rest.lower().endswith(endings):
                content.seek(offset)
                data = content.read(length)
                try:
                    text = data.decode("utf-8-sig")
                except UnicodeDecodeError as error:
                    raise not_utf8(error, f"{where}{rest}") from None
                if endings == (".json",):
                    return json_captions(text, where)
                return tuple(filter(None, map(one_line, text.splitlines())))
    return ()
