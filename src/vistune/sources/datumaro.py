"""Datumaro's JSON: a file for each subset, `annotations/train.json`, with images in `images/train`.

See https://open-edge-platform.github.io/datumaro/latest/docs/data-formats/formats/datumaro.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.scene.context import one_line
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, four_numbers, json_stream
from vistune.sources._reading import Reading, each

_FORM = "'bbox' is [x, y, width, height] in pixels"
_POLYGONS = ("polygon", "ellipse", "rotated_bbox")


@sources.register("datumaro")
class Datumaro(Reading):
    """A JSON file, or a folder with such files; `split` is the subset, the file's name."""

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        members = contents.json(file).members
        labels = members.get("categories")
        return "dm_format_version" in members or (isinstance(labels, dict) and isinstance(labels.get("label"), dict))

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            with json_stream(file) as stream:
                yield from each(_items(stream, file), _draft, on_error)


def _items(stream: Any, file: Path) -> Iterator[tuple[str, Any, list[str]]]:
    """Each item with the names of the labels, which the file has before the items."""
    names: list[str] = []
    for key in stream.members():
        if key == "categories":
            labels = stream.value().get("label", {}).get("labels", ())
            names = [str(label.get("name", "")) for label in labels]
        elif key == "items":
            for number, (item, _, _) in enumerate(stream.elements()):
                yield f"{file}: item {number}", item, names


def _draft(entry: tuple[str, Any, list[str]]) -> Draft:
    where, item, names = entry
    if not isinstance(item, dict) or "id" not in item:
        raise AnnotationError("this is not an item with an id", where=where)
    id_ = str(item["id"])
    image = item.get("image") or item.get("media") or {}
    height, width = image.get("size") or (0, 0)
    found = list(enumerate(item.get("annotations") or (), 1))
    captions = [one_line(str(one.get("caption", ""))) for _, one in found if one.get("type") == "caption"]
    boxes = [box for number, one in found if (box := _box(one, names, f"{where}, annotation {number}"))]
    name = image.get("path") or f"{id_}.jpg"
    return Draft(id_, (name, f"{id_}.jpg"), where, boxes, tuple(filter(None, captions)), int(width), int(height))


def _box(one: Mapping[str, Any], names: list[str], where: str) -> RawBox | None:
    """The box of an annotation; None for one that has no area, as a caption or points."""
    if "bbox" in one and one.get("type") != "points":
        x, y, width, height = four_numbers(one["bbox"], where, _FORM)
        corners = x, y, x + width, y + height
    elif one.get("type") in _POLYGONS and one.get("points"):
        corners = box_around(one["points"][::2], one["points"][1::2])
    else:
        return None
    label = one.get("label_id")
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise AnnotationError(f"there is no label with the number {label}", where=where)
    return RawBox(names[label], *corners, where, bool((one.get("attributes") or {}).get("is_crowd")))
