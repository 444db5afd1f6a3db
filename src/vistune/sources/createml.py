"""CreateML's JSON: a list of images, with boxes by their centre in pixels; Roboflow and supervision write it, too.

See https://developer.apple.com/documentation/createml/building-an-object-detector-data-source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import category_name, four_numbers
from vistune.sources._reading import Reading, each, json_rows
from vistune.sources._rows import id_of

_FORM = "'coordinates' has x and y of the centre, width and height, in pixels"


@sources.register("createml")
class CreateMl(Reading):
    """A JSON file (`_annotations.createml.json`), or a folder with one; sizes are those of the images."""

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        row = contents.json(file).first
        found = row.get("annotations") if isinstance(row, dict) and _name(row) else None
        return isinstance(found, list) and all(isinstance(one, dict) and "coordinates" in one for one in found)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            yield from each(json_rows(file, "image"), _draft, on_error)


def _name(row: dict[str, Any]) -> Any:
    return row.get("image") or row.get("imagefilename")


def _draft(item: tuple[str, Any]) -> Draft:
    where, row = item
    name = _name(row) if isinstance(row, dict) else None
    if not isinstance(name, str):
        raise AnnotationError("this is no image with 'image' and 'annotations'", where=where)
    found = enumerate(row.get("annotations") or row.get("annotation") or (), 1)
    boxes = [_box(one, f"{where}, annotation {number}") for number, one in found]
    return Draft(id_of(name, where), (name,), where, boxes)


def _box(one: dict[str, Any], where: str) -> RawBox:
    place = one.get("coordinates") or {}
    x, y, width, height = four_numbers([place.get(key) for key in ("x", "y", "width", "height")], where, _FORM)
    corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return RawBox(category_name(one.get("label"), where), *corners, where)
