"""Visual Genome's objects.json, with the sizes of image_data.json beside it.

See https://homes.cs.washington.edu/~ranjay/visualgenome/api_readme.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import category_name, four_numbers, json_stream
from vistune.sources._reading import Reading, each

_SIZES = "image_data.json"
_FORM = "an object has x, y, w and h in pixels"


@sources.register("visual_genome")
class VisualGenome(Reading):
    """A file like objects.json, or a folder with it; without image_data.json sizes are those of the images."""

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        return [file for file in contents.some(".json") if _is_objects(contents.json(file).first)]

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            images = _images(file.with_name(_SIZES))
            with json_stream(file) as stream:
                rows = (
                    (f"{file}: record {number}", row, images) for number, (row, _, _) in enumerate(stream.elements())
                )
                yield from each(rows, _draft, on_error)


def _is_objects(row: Any) -> bool:
    objects = row.get("objects") if isinstance(row, dict) else None
    return isinstance(objects, list) and all(isinstance(one, dict) and "names" in one and "w" in one for one in objects)


def _images(file: Path) -> dict[int, tuple[str, int, int]]:
    """Each image's address and size; empty without the file."""
    if not file.is_file():
        return {}
    with json_stream(file) as stream:
        rows = [row for row, _, _ in stream.elements() if isinstance(row, dict)]
    return {row["image_id"]: (row.get("url", ""), row.get("width", 0), row.get("height", 0)) for row in rows}


def _draft(item: tuple[str, Any, dict[int, tuple[str, int, int]]]) -> Draft:
    where, row, images = item
    id_ = row.get("image_id", row.get("id")) if isinstance(row, dict) else None
    if not isinstance(id_, int) or not isinstance(row.get("objects"), list):
        raise AnnotationError("this is not an image with 'image_id' and 'objects'", where=where)
    url, width, height = images.get(id_, ("", 0, 0))
    name = "/".join(urlsplit(url or row.get("image_url") or "").path.split("/")[-2:])  # VG_100K/1.jpg
    boxes = [_box(one, f"{where}, object {number}") for number, one in enumerate(row["objects"], 1)]
    return Draft(str(id_), (name or f"{id_}.jpg", f"{id_}.jpg"), where, boxes, width=width, height=height)


def _box(one: Any, where: str) -> RawBox:
    if not isinstance(one, dict):
        raise AnnotationError("this is not an object", where=where, fix=_FORM)
    x, y, width, height = four_numbers([one.get(key) for key in "xywh"], where, _FORM)
    names = one.get("names") or [None]
    return RawBox(category_name(names[0], where), x, y, x + width, y + height, where)
