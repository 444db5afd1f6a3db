"""VGG Image Annotator's JSON or CSV: a project of version 2, or its exported annotations, of version 1 as well.

See https://www.robots.ox.ac.uk/~vgg/software/via/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.formats._json_stream import JsonStream
from vistune.reading import parse_json
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, json_stream
from vistune.sources._reading import Reading, each
from vistune.sources._rows import CAPTIONS, Row, id_of, read_rows, sample, texts, usual

_IMAGES = "_via_img_metadata"
_CATEGORY = ("class", "label", "category", "name", "type", "object", "object_name", "class_name")
"""The usual names of the attribute that says what a region shows."""
_CELLS = {"region_shape_attributes", "region_attributes"}
_WITHOUT_AREA = ("point", "polyline")


@sources.register("via")
class Via(Reading):
    """A file, or a folder with one. Sizes are those of the images; captions are file attributes."""

    endings = (".json", ".csv")

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        if file.suffix.lower() == ".csv":
            return any(row.values.keys() >= _CELLS for row in sample(contents, file)[:1])
        members = contents.json(file).members
        first = next(iter(members.values()), None)
        return _IMAGES in members or (isinstance(first, dict) and {"filename", "regions"} <= first.keys())

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            if file.suffix.lower() == ".csv":
                yield from each(_of_table(file, on_error), _draft, on_error)
            else:
                with json_stream(file) as stream:
                    project = _IMAGES in self.contents.json(file).members
                    yield from each(_entries(stream, file, project=project), _draft, on_error)


def _of_table(file: Path, on_error: OnError) -> Iterator[tuple[str, Any]]:
    """The images of a CSV file: a row for each region, with JSON in its cells, or one without regions."""
    for name, rows in groupby(read_rows(file, on_error), key=lambda row: row.values["filename"]):
        several = list(rows)
        where = several[0].where
        regions = ({cell: _of_cell(row, cell) for cell in _CELLS} for row in several)
        found = [region for region in regions if region["region_shape_attributes"]]
        about = _of_cell(several[0], "file_attributes")
        yield where, {"filename": name, "regions": found, "file_attributes": about}


def _of_cell(row: Row, cell: str) -> Any:
    return parse_json(row.values[cell], row.where, AnnotationError)


def _entries(stream: JsonStream, file: Path, *, project: bool) -> Iterator[tuple[str, Any]]:
    if project:
        for key in stream.members():
            if key == _IMAGES:
                yield from _entries(stream, file, project=False)
    else:
        for key in stream.members():
            yield f"{file}: {key}", stream.value()


def _draft(item: tuple[str, Any]) -> Draft:
    where, entry = item
    name = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise AnnotationError("this is not an image with 'filename' and 'regions'", where=where)
    regions = entry.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    pairs = [(region, f"{where}, region {number}") for number, region in enumerate(regions, 1)]
    boxes = [box for region, at in pairs if (box := _box(region, at))]
    attributes = Row(entry.get("file_attributes") or {}, where)
    column = usual(attributes, CAPTIONS)
    captions = tuple(texts(attributes, attributes.values[column])) if column else ()
    return Draft(id_of(name, where), (name,), where, boxes, captions)


def _box(region: Any, where: str) -> RawBox | None:
    region = {key.removeprefix("region_"): value for key, value in region.items()} if isinstance(region, dict) else {}
    shape = region.get("shape_attributes")
    if not isinstance(shape, dict):
        raise AnnotationError("this is not a region with 'shape_attributes'", where=where)
    if shape.get("name") in _WITHOUT_AREA:
        return None
    try:
        corners = _corners(shape)
    except (KeyError, TypeError, ValueError):
        raise AnnotationError(f"the shape is not in numbers: {str(shape)[:60]}", where=where) from None
    return RawBox(_category(region.get("attributes") or {}, where), *corners, where)


def _corners(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    if "all_points_x" in shape:
        return box_around(shape["all_points_x"], shape["all_points_y"])
    if "cx" in shape:
        rx = shape["r"] if "r" in shape else shape["rx"]
        ry = shape["r"] if "r" in shape else shape["ry"]
        return shape["cx"] - rx, shape["cy"] - ry, shape["cx"] + rx, shape["cy"] + ry
    return shape["x"], shape["y"], shape["x"] + shape["width"], shape["y"] + shape["height"]


def _category(attributes: Mapping[str, Any], where: str) -> str:
    """The value of the attribute with a usual name, or of the only one; of a checkbox the value that is ticked."""
    row = Row(attributes, where)
    name = usual(row, _CATEGORY) or (next(iter(attributes)) if len(attributes) == 1 else None)
    value = attributes[name] if name else None
    if isinstance(value, dict):
        value = next((key for key, ticked in value.items() if ticked), None)
    if not isinstance(value, str) or not value.strip():
        fix = f"give each region a value of one attribute with a usual name: {', '.join(_CATEGORY)}"
        raise AnnotationError(f"what the region shows is not known: {dict(attributes)}", where=where, fix=fix)
    return value.strip()
