"""COCO's annotations: captions and boxes, in one JSON file or several, under any name.

See https://cocodataset.org/#format-data. Roboflow, Label Studio, CVAT, FiftyOne, labelme2coco and VizWiz write it, too.
Files are read piece by piece; what is kept of them are captions and six numbers a box.
"""

from __future__ import annotations

import json
import re
import shlex
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import Location, OnError
from vistune.formats._json_stream import JsonStream
from vistune.scene.context import one_line
from vistune.sources import sources
from vistune.sources._contents import Contents, JsonHead
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import is_number
from vistune.sources._reading import Reading, each
from vistune.sources._rows import Row

_OFFICIAL = re.compile(r"(captions|instances|person_keypoints|stuff|panoptic|image_info)_(.+)")
_SECTIONS = {"images": "image", "annotations": "annotation", "categories": "category"}
_FORM = "'bbox' is [x, y, width, height] in pixels"
_CATEGORY = "add it to 'categories'"
_Id = int | str


@sources.register("coco")
class Coco(Reading):
    """A file in COCO's format, or a folder with such files: those of a split are read together.

    Where a split has several files with boxes, COCO's `instances_…` are read and its keypoints, stuff and panoptic ones
    are not.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._files = self._of_split(self._files)
        self._content: _Content | None = None

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        return [
            file for file in contents.some(".json") if _OFFICIAL.fullmatch(file.stem) or _is_coco(contents.json(file))
        ]

    def _candidates(self) -> list[Path]:
        """A file that is named as such is read unless it is of another kind: a mistake in it is reported."""
        named = self.path.suffix.lower() == ".json" and self.path.is_file()
        return [self.path] if named and self.contents.json(self.path).kind != "list" else self._own_files(self.contents)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        if self._content is None:
            self._content = _Content(self._files)
        for error in self._content.errors:
            on_error(error)
        yield from each(self._content.images.items(), self._content.draft, on_error)

    def _of_split(self, files: Sequence[Path]) -> list[Path]:
        by_kind: dict[str, list[Path]] = {}
        for file in files:
            official = _OFFICIAL.fullmatch(file.stem)
            by_kind.setdefault(official[1] if official else "", []).append(file)
        captions = by_kind.get("captions", [])
        boxes = next(
            (by_kind[kind] for kind in ("instances", "", *by_kind) if kind in by_kind and kind != "captions"), []
        )
        for several in (captions, boxes):
            if len(several) > 1:
                what = f"several files of one split: {', '.join(file.name for file in several)}"
                fix = ", or ".join(
                    f"vistune generate {shlex.quote(str(file))} --source coco --show" for file in several
                )
                raise AnnotationError(what, where=str(self.path), fix=fix)
        return [*captions, *boxes]


def _is_coco(head: JsonHead) -> bool:
    annotated = any(head.has("annotations", "image_id", key) for key in ("caption", "category_id", "segments_info"))
    empty = head.members.get("images", ()) is None and {"annotations", "categories"} <= head.members.keys()
    return annotated or head.has("images", "file_name", "id") or empty


@dataclass(slots=True)
class _Image:
    """An image whose captions and boxes are being gathered; without `files` it is not among the images so far."""

    name: str = ""
    width: int = 0
    height: int = 0
    files: list[Path] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    """Six numbers a box: the category's place, crowd, x, y, width, height."""
    first_use: str = ""
    """The first annotation of it."""


class _Content:
    """All files of a split, in memory. An image with a mistake is reported once and left out."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.errors: list[AnnotationError] = []
        self.images: dict[_Id, _Image] = {}
        self._categories: dict[_Id, int] = {}
        self._names: list[str | None] = []
        self._left_out: set[str] = set()
        for file in files:
            self._read(file)
        self._check_uses()

    def draft(self, item: tuple[_Id, _Image]) -> Draft | None:
        """The image as it was gathered; None for one that is left out."""
        id_, image = item
        if str(id_) in self._left_out:
            return None
        where = f"{image.files[-1]}: image {id_}"
        boxes = tuple(self._boxes(image, where))
        return Draft(str(id_), (image.name,), where, boxes, tuple(image.captions), image.width, image.height)

    def _boxes(self, image: _Image, where: str) -> Iterator[RawBox]:
        for at in range(0, len(image.boxes), 6):
            category, crowd, x, y, width, height = image.boxes[at : at + 6]
            place = f"{where}, box {at // 6 + 1}"
            if (name := self._names[int(category)]) is None:
                id_ = next(id_ for id_, number in self._categories.items() if number == category)
                raise AnnotationError(f"there is no category with the id {id_!r}", where=place, fix=_CATEGORY)
            yield RawBox(name, x, y, x + max(width, 0), y + max(height, 0), place, bool(crowd))

    def _read(self, file: Path) -> None:
        location = Location(str(file), AnnotationError)
        with location.open(file) as opened:
            stream = JsonStream(opened, location)
            if stream.next() != "{":
                raise AnnotationError("COCO's format is an object with 'images' and 'annotations'", where=str(file))
            for section in stream.members():
                if section in _SECTIONS and stream.next() == "[":
                    for index, (values, _, _) in enumerate(stream.elements()):
                        self._take(section, file, index, values)
            stream.end()

    def _take(self, section: str, file: Path, index: int, values: Any) -> None:
        if not isinstance(values, dict):
            self.errors.append(AnnotationError("this is not an object", where=f"{file}: {section}[{index}]"))
            return
        row = Row(values, f"{file}: {section}[{index}]")
        if "id" in values:
            row = Row(values, f"{file}: {_SECTIONS[section]} {values['id']}")
        image = values.get("id" if section == "images" else "image_id") if section != "categories" else None
        if str(image) in self._left_out:
            return
        try:
            {"images": self._add_image, "annotations": self._add_annotation, "categories": self._add_category}[section](
                row, file
            )
        except AnnotationError as error:
            if section == "categories":
                raise
            self.errors.append(error)
            if image is not None:
                self._left_out.add(str(image))

    def _add_image(self, row: Row, file: Path) -> None:
        key, name = _id(row, "id"), row.values.get("file_name") or row.values.get("coco_url")
        if not isinstance(name, str):
            raise row.wrong(f"'file_name' is not a name: {_short(row.values.get('file_name'))}")
        width, height = (_side(row, side) for side in ("width", "height"))
        image = self.images.setdefault(key, _Image())
        if file in image.files:
            raise row.wrong("another image of this file has the same id")
        if image.files and (image.name != name or (width and image.width and image.width != width)):
            raise row.wrong(f"{image.files[0]} has another file name or size for this image")
        image.name, image.width, image.height = name, width or image.width, height or image.height
        image.files.append(file)

    def _add_category(self, row: Row, _: Path) -> None:
        name = row.values.get("name")
        if not isinstance(name, str) or not name.strip():
            raise row.wrong(f"the category's name is not a text: {_short(name)}")
        self._names[self._place(_id(row, "id"))] = name.strip()

    def _place(self, category: _Id) -> int:
        if category not in self._categories:
            self._categories[category] = len(self._names)
            self._names.append(None)
        return self._categories[category]

    def _add_annotation(self, row: Row, _: Path) -> None:
        image = self.images.setdefault(_id(row, "image_id"), _Image())
        image.first_use = image.first_use or row.where
        if "caption" in row.values:
            image.captions += _captions(row)
        for part in row.values.get("segments_info") or ([row.values] if "category_id" in row.values else ()):
            box = Row(part, row.where)
            place = self._place(_id(box, "category_id"))
            image.boxes.extend((place, bool(part.get("iscrowd")), *_bbox(box)))

    def _check_uses(self) -> None:
        """Annotations of images that are not there are mistakes."""
        for id_ in [id_ for id_, image in self.images.items() if not image.files]:
            what = f"there is no image with the id {id_!r}"
            first = self.images.pop(id_).first_use
            self.errors.append(AnnotationError(what, where=first, fix="add it to 'images'"))


def _id(row: Row, key: str) -> _Id:
    if key not in row.values:
        raise row.wrong(f"the key '{key}' is missing")
    value = row.values[key]
    if not isinstance(value, int | str):
        raise row.wrong(f"'{key}' is neither a number nor a text: {_short(value)}")
    return value


def _side(row: Row, key: str) -> int:
    """Width or height in pixels; 0 where there is none, as for captions."""
    value = row.values.get(key)
    if value is None or value in (0, -1):
        return 0
    if not is_number(value) or value < 1 or value != int(value):
        raise row.wrong(f"'{key}' is not a size in pixels: {_short(value)}")
    return int(value)


def _captions(row: Row) -> list[str]:
    caption = row.values["caption"]
    if not isinstance(caption, str):
        raise row.wrong(f"the caption is not a text: {_short(caption)}")
    return [line] if (line := one_line(caption)) else []


def _bbox(row: Row) -> tuple[float, float, float, float]:
    """[x, y, width, height], or that of the polygons where there is none."""
    bbox = row.values.get("bbox")
    if not bbox:
        bbox = _around(row.values.get("segmentation"))
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        raise row.wrong(f"'bbox' is not [x, y, width, height]: {_short(bbox)}", _FORM)
    x, y, width, height = bbox
    return x, y, width, height


def _around(polygons: Any) -> list[float] | None:
    if isinstance(polygons, Mapping) or not polygons:  # a mask
        return None
    values = [value for polygon in polygons for value in polygon]
    if not values or not all(map(is_number, values)):
        return None
    x, y = values[::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
