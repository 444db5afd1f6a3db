"""COCO's annotations: captions and boxes, in one JSON file or several, under any name.

See https://cocodataset.org/#format-data. Roboflow, Label Studio, CVAT, FiftyOne, labelme2coco and VizWiz write it, too.
Files are read piece by piece; what is kept of them are captions and six numbers a box.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.scene.context import one_line
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import is_number, json_stream
from vistune.sources._reading import Reading, each

_OFFICIAL = re.compile(r"(captions|instances|person_keypoints|stuff|panoptic|image_info)_(.+)")
_SECTIONS = {"images": "image", "annotations": "annotation", "categories": "category"}
_FORM = "'bbox' is [x, y, width, height] in pixels"
_TWO = "give each category its own id"
_CROWD = "'iscrowd' is 0 or 1"
_CATEGORY = "add it to 'categories'"
_POLYGONS, _NO_POLYGON = re.compile(r'"segmentation"\s*:\s*\[[^"]*\]'), '"segmentation":[]'
_FEDERATED = {"neg_category_ids", "not_exhaustive_category_ids"}
"""LVIS's keys of an image: only some categories have all of their objects boxed in it."""


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
    def reads(contents: Contents, file: Path) -> bool:
        head = contents.json(file)
        annotated = any(head.has("annotations", "image_id", key) for key in ("caption", "category_id", "segments_info"))
        empty = head.members.get("images", ()) is None and {"annotations", "categories"} <= head.members.keys()
        return annotated or head.has("images", "file_name", "id") or empty or bool(_OFFICIAL.fullmatch(file.stem))

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
    exhaustive: bool = True
    first_use: str = ""
    """The first annotation of it, where that comes before the image."""


class _Content:
    """All files of a split, in memory. An image with a mistake is reported once and left out."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.errors: list[AnnotationError] = []
        self.images: dict[str, _Image] = {}
        self._categories: dict[str, int] = {}
        self._names: list[str | None] = []
        self._left_out: set[str] = set()
        for file in files:
            self._read(file)
        self._check_uses()

    def draft(self, item: tuple[str, _Image]) -> Draft | None:
        """The image as it was gathered; None for one that is left out."""
        id_, image = item
        if id_ in self._left_out:
            return None
        where = f"{image.files[-1]}: image {id_}"
        boxes, captions = tuple(self._boxes(image, where)), tuple(image.captions)
        size = image.width, image.height
        return Draft(id_, (image.name,), where, boxes, captions, *size, exhaustive=image.exhaustive)

    def _boxes(self, image: _Image, where: str) -> Iterator[RawBox]:
        for at in range(0, len(image.boxes), 6):
            category, crowd, x, y, width, height = image.boxes[at : at + 6]
            place = f"{where}, box {at // 6 + 1}"
            if (name := self._names[int(category)]) is None:
                id_ = next(id_ for id_, number in self._categories.items() if number == category)
                raise AnnotationError(f"there is no category with the id {id_}", where=place, fix=_CATEGORY)
            yield RawBox(name, x, y, x + max(width, 0), y + max(height, 0), place, bool(crowd))

    def _read(self, file: Path) -> None:
        add: dict[str, Callable[[Any], None]] = {
            "images": partial(self._add_image, file=file),
            "annotations": partial(self._add_annotation, file=file),
            "categories": self._add_category,
        }
        with json_stream(file) as stream:
            if stream.next() != "{":
                raise AnnotationError(
                    "COCO's format is an object with 'images' and 'annotations'",
                    where=str(file),
                    fix="name a file in COCO's format, or leave --source out",
                )
            for section in stream.members():
                if section not in add or stream.next() != "[":
                    continue
                for index, row in enumerate(chain.from_iterable(stream.batches(_without_polygons))):
                    try:
                        add[section](row)
                    except AnnotationError as error:
                        self._mistake(error, section, row, f"{file}: {section}[{index}]")
            stream.end()

    def _mistake(self, error: AnnotationError, section: str, row: Any, where: str) -> None:
        """Report the first mistake about an image, and leave the image out; one in a category ends the reading."""
        values = row if isinstance(row, dict) else {}
        if "id" in values:
            where = f"{where.rpartition(': ')[0]}: {_SECTIONS[section]} {values['id']}"
        error = AnnotationError(error.what, where=where, fix=error.fix)
        if section == "categories":
            raise error
        image = values.get("id" if section == "images" else "image_id")
        if str(image) not in self._left_out:
            self.errors.append(error)
        if image is not None:
            self._left_out.add(str(image))

    def _add_image(self, row: Any, file: Path) -> None:
        key, name = _id(row, "id"), row.get("file_name") or row.get("coco_url")
        if not isinstance(name, str):
            raise AnnotationError(f"'file_name' is not a name: {_short(row.get('file_name'))}")
        width, height = (_side(row, side) for side in ("width", "height"))
        image = self.images.setdefault(key, _Image())
        if file in image.files:
            raise AnnotationError("another image of this file has the same id")
        if image.files and (image.name != name or (width and image.width and image.width != width)):
            raise AnnotationError(f"{image.files[0]} has another file name or size for this image")
        image.name, image.width, image.height = name, width or image.width, height or image.height
        image.exhaustive = image.exhaustive and row.keys().isdisjoint(_FEDERATED)
        image.files.append(file)

    def _add_category(self, row: Any) -> None:
        key, name = _id(row, "id"), row.get("name")
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"the category's name is not a text: {_short(name)}")
        place = self._place(key)
        if self._names[place] not in (None, name.strip()):
            what = f"the categories '{self._names[place]}' and '{name.strip()}' have the same id"
            raise AnnotationError(what, fix=_TWO)
        self._names[place] = name.strip()

    def _place(self, category: str) -> int:
        if category not in self._categories:
            self._categories[category] = len(self._names)
            self._names.append(None)
        return self._categories[category]

    def _add_annotation(self, row: Any, file: Path) -> None:
        image = self.images.setdefault(_id(row, "image_id"), _Image())
        if not image.files and not image.first_use:
            image.first_use = f"{file}: annotation {row.get('id', '')}"
        if "caption" in row:
            image.captions += _captions(row)
        boxed = "category_id" in row and ("bbox" in row or "caption" not in row)
        for part in row.get("segments_info") or ([row] if boxed else ()):
            place = self._place(_id(part, "category_id"))
            if (crowd := part.get("iscrowd") or 0) not in (0, 1):
                raise AnnotationError(f"'iscrowd' is {_short(crowd)}", fix=_CROWD)
            image.boxes.extend((place, crowd, *_bbox(part)))

    def _check_uses(self) -> None:
        """Annotations of images that are not there are mistakes."""
        for id_ in [id_ for id_, image in self.images.items() if not image.files]:
            first = self.images.pop(id_).first_use
            if id_ not in self._left_out:
                what = f"there is no image with the id {id_}"
                self.errors.append(AnnotationError(what, where=first, fix="add it to 'images'"))


def _without_polygons(text: str) -> list[Any]:
    """The objects in a JSON list. Polygons, most of a file's bytes, are read only where a box is missing."""
    rows: list[Any] = json.loads(_POLYGONS.sub(_NO_POLYGON, text))
    if any(isinstance(row, dict) and "segmentation" in row and not row.get("bbox") for row in rows):
        rows = json.loads(text)
    return rows


def _id(row: Any, key: str) -> str:
    """An id as a text: some tools write those of images as numbers, and as texts in the annotations."""
    if not isinstance(row, dict):
        raise AnnotationError("this is not an object")
    if key not in row:
        raise AnnotationError(f"the key '{key}' is missing")
    value = row[key]
    if not isinstance(value, int | str):
        raise AnnotationError(f"'{key}' is neither a number nor a text: {_short(value)}")
    return str(value)


def _side(row: dict[str, Any], key: str) -> int:
    """Width or height in pixels; 0 where there is none, as for captions."""
    value = row.get(key)
    if value is None or value in (0, -1):
        return 0
    if not is_number(value) or value < 1 or value != int(value):
        raise AnnotationError(f"'{key}' is not a size in pixels: {_short(value)}")
    return int(value)


def _captions(row: dict[str, Any]) -> list[str]:
    caption = row["caption"]
    if not isinstance(caption, str):
        raise AnnotationError(f"the caption is not a text: {_short(caption)}")
    return [line] if (line := one_line(caption)) else []


def _bbox(row: dict[str, Any]) -> tuple[float, float, float, float]:
    """[x, y, width, height], or that of the polygons where there is none."""
    bbox = row.get("bbox") or _around(row.get("segmentation"))
    try:
        x, y, width, height = bbox  # type: ignore[misc]
        if math.isfinite(x + y + width + height):
            return x, y, width, height
    except (TypeError, ValueError, OverflowError):
        pass
    raise AnnotationError(f"'bbox' is not [x, y, width, height]: {_short(bbox)}", fix=_FORM)


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
