"""Visual Genome's objects.json, with the sizes of image_data.json beside it.

See https://homes.cs.washington.edu/~ranjay/visualgenome/api_readme.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import category_name, four_numbers
from vistune.sources._reading import Reading, each, json_rows

_SIZES = "image_data.json"
_FORM = "an object has x, y, w and h in pixels"


@sources.register("visual_genome")
class VisualGenome(Reading):
    """A file like objects.json, or a folder with it; without image_data.json sizes are those of the images."""

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        row = contents.json(file).first
        objects = row.get("objects") if isinstance(row, dict) else None
        return isinstance(objects, list) and all(
            isinstance(one, dict) and {"names", "w"} <= one.keys() for one in objects
        )

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            images = _images(file.with_name(_SIZES))
            yield from each(json_rows(file, "record"), partial(_draft, images=images), on_error)


def _images(file: Path) -> dict[int, tuple[str, int, int]]:
    """Each image's address and size; empty without the file."""
    if not file.is_file():
        return {}
    rows = (row for _, row in json_rows(file, "image") if isinstance(row, dict))
    return {row["image_id"]: (row.get("url", ""), row.get("width", 0), row.get("height", 0)) for row in rows}


def _draft(item: tuple[str, Any], images: Mapping[int, tuple[str, int, int]]) -> Draft:
    where, row = item
    id_ = row.get("image_id", row.get("id")) if isinstance(row, dict) else None
    if not isinstance(id_, int) or not isinstance(row.get("objects"), list):
        raise AnnotationError("this is not an image with 'image_id' and 'objects'", where=where)
    url, width, height = images.get(id_, ("", 0, 0))
    name = "/".join(urlsplit(url or row.get("image_url") or "").path.split("/")[-2:])  # VG_100K/1.jpg
    boxes = [_box(one, f"{where}, object {number}") for number, one in enumerate(row["objects"], 1)]
    names = (name or f"{id_}.jpg", f"{id_}.jpg")
    return Draft(str(id_), names, where, boxes, (), width, height, exhaustive=False)


def _box(one: Any, where: str) -> RawBox:
    if not isinstance(one, dict):
        raise AnnotationError("this is not an object", where=where, fix=_FORM)
    x, y, width, height = four_numbers([one.get(key) for key in "xywh"], where, _FORM)
    names = one.get("names") or [None]
    return RawBox(category_name(names[0], where), x, y, x + width, y + height, where)
