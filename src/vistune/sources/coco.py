"""COCO's captions and instances files (https://cocodataset.org/#format-data), the real ones and any other.

Boxes become fractions of the image's size. Boxes may leave their image by a pixel (COCO's are rounded) and
are clipped; whatever else cannot be right is an AnnotationError that names the file and the record.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from vistune.errors import AnnotationError, did_you_mean
from vistune.formats import parse_json
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import closest, is_number, read_bytes
from vistune.sources._rows import Row

_TOLERANCE = 1.0  # pixels
_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


class CocoFiles(NamedTuple):
    """The files of a split; one of captions and instances may be missing.

    `images` is the folder for the images; `there` says whether it exists.
    """

    captions: Path | None
    instances: Path | None
    images: Path
    there: bool = True


@sources.register("coco")
class Coco:
    """A split of a folder in COCO's layout (see `find_coco`), in memory: its files are not ordered by image.

    If there is a folder of images, every image has to be in it.
    """

    needs_split: ClassVar[bool] = True

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        self.images = path
        self._records = read_coco(*find_coco(path, split or "train"), on_error=on_error)

    @staticmethod
    def fits(path: Path) -> bool:
        return path.is_dir() and bool(_annotation_files(path))

    def __iter__(self) -> Iterator[ImageRecord]:
        return iter(self._records)


def read_coco(
    captions: Path | None, instances: Path | None, images: Path, there: bool = True, *, on_error: OnError = stop
) -> list[ImageRecord]:
    """The images of either file with their captions and boxes; an image may lack one of the two.

    Unless `there` is false, every image has to be in the folder `images`. Raises AnnotationError.
    """
    if there and not images.is_dir():
        raise AnnotationError("there is no such folder", where=str(images), fix=closest(images))
    existing = frozenset(path.name for path in images.iterdir()) if there else None
    drafts = _Drafts(images, existing, on_error)
    if captions:
        drafts.read(_File(captions), lambda row, draft: draft.captions.append(_caption(row)))
    if instances:
        file = _File(instances)
        categories = _categories(file)
        drafts.read(file, lambda row, draft: draft.boxes.append(_box(row, draft, categories)))
    return drafts.records()


def find_coco(folder: Path, split: str) -> CocoFiles:
    """The files of `split`, like `train` or `train2014`.

    Annotations are sought in `folder` and `folder/annotations`, images in `folder/<split>`,
    `folder/images/<split>` and `folder/images`. Raises AnnotationError if there are no annotations.
    """
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.exists() else "there is no such folder"
        raise AnnotationError(what, where=str(folder), fix=closest(folder))
    found = _annotation_files(folder)
    if not found:
        fix = "COCO's files are called captions_<split>.json and instances_<split>.json"
        raise AnnotationError("no annotation files in COCO's format are here", where=str(folder), fix=fix)
    name = _split(split, found, folder)
    places = (folder / name, folder / "images" / name, folder / "images")
    images = next((place for place in places if place.is_dir()), None)
    return CocoFiles(found[name].get("captions"), found[name].get("instances"), images or places[0], images is not None)


@dataclass(slots=True)
class _Draft:
    """An image whose captions and boxes are being gathered."""

    id: str
    image: Path
    width: int
    height: int
    files: list[Path] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    def record(self) -> ImageRecord:
        origin = f"{self.files[-1]}: image {self.id}"
        return ImageRecord(
            self.id, self.image, self.width, self.height, tuple(self.captions), tuple(self.boxes), origin
        )


class _File:
    """A JSON file. Raises AnnotationError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = parse_json(read_bytes(path), str(path), AnnotationError)
        if not isinstance(self._content, dict):
            raise AnnotationError("COCO's format is an object with 'images' and 'annotations'", where=str(path))

    def rows(self, section: str, on_error: OnError) -> Iterator[Row]:
        records = _value(Row(self._content, f"{self.path}: the file"), section)
        if not isinstance(records, list):
            raise AnnotationError(f"'{section}' is not a list", where=str(self.path))
        for index, values in enumerate(records):
            where = f"{self.path}: {section}[{index}]"
            if not isinstance(values, dict):
                on_error(AnnotationError("this is not an object", where=where))
            elif "id" in values:
                yield Row(values, f"{self.path}: {_SINGULAR[section]} {values['id']}")
            else:
                yield Row(values, where)


def _value(row: Row, key: str) -> Any:
    if key not in row.values:
        close = difflib.get_close_matches(key, row.values, n=1)
        raise row.wrong(f"the key '{key}' is missing", f"rename '{close[0]}'?" if close else "")
    value = row.values[key]
    if key.endswith("id") and not isinstance(value, int | str):
        raise row.wrong(f"'{key}' is neither a number nor a text: {_short(value)}")
    return value


@dataclass(frozen=True, slots=True)
class _Drafts:
    """The images while they are gathered. One with a mistake in either file is reported once and left out."""

    images: Path
    existing: frozenset[str] | None
    on_error: OnError
    by_id: dict[int | str, _Draft] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def read(self, file: _File, take: Callable[[Row, _Draft], None]) -> None:
        """Add the file's images, then `take` each annotation into the image that it belongs to."""
        self._each(file, "images", "id", lambda row: self._add_image(row, file.path))
        self._each(file, "annotations", "image_id", lambda row: take(row, self._image_of(row, file.path)))

    def _each(self, file: _File, section: str, id_key: str, do: Callable[[Row], None]) -> None:
        for row in file.rows(section, self.on_error):
            image_id = row.values.get(id_key)
            if str(image_id) in self.left_out:
                continue
            try:
                do(row)
            except AnnotationError as error:
                self.on_error(error)
                if image_id is not None:
                    self.left_out.add(str(image_id))

    def _image_of(self, row: Row, file: Path) -> _Draft:
        image_id = _value(row, "image_id")
        draft = self.by_id.get(image_id)
        if draft is None or file not in draft.files:
            raise row.wrong(f"there is no image with the id {image_id!r}", "add it to 'images'")
        return draft

    def records(self) -> list[ImageRecord]:
        """The images without a mistake."""
        return [draft.record() for draft in self.by_id.values() if draft.id not in self.left_out]

    def _add_image(self, row: Row, file: Path) -> None:
        key, name = _value(row, "id"), _value(row, "file_name")
        size = _value(row, "width"), _value(row, "height")
        if not all(is_number(side) and side >= 1 and side == int(side) for side in size):
            raise row.wrong(f"width and height are not sizes in pixels: {_short(list(size))}")
        if not isinstance(name, str) or not name:
            raise row.wrong(f"'file_name' is not a name: {_short(name)}")
        image = self.images / name
        if self.existing is not None and name not in self.existing and not image.is_file():
            raise row.wrong(f"the image file {image} is missing", closest(image))
        draft = self.by_id.setdefault(key, _Draft(str(key), image, int(size[0]), int(size[1])))
        if file in draft.files:
            raise row.wrong("another image of this file has the same id")
        if (draft.image, draft.width, draft.height) != (image, *size):
            raise row.wrong(f"{draft.files[0]} has another file name or size for this image")
        draft.files.append(file)


def _categories(file: _File) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for row in file.rows("categories", stop):
        name = _value(row, "name")
        if not isinstance(name, str) or not name.strip():
            raise row.wrong(f"the category's name is not a text: {_short(name)}")
        names[_value(row, "id")] = name.strip()
    return names


def _caption(row: Row) -> str:
    caption = _value(row, "caption")
    if not isinstance(caption, str):
        raise row.wrong(f"the caption is not a text: {_short(caption)}")
    caption = " ".join(caption.split())
    if not caption:
        raise row.wrong("the caption is empty", "write it or remove the annotation")
    return caption


def _box(row: Row, image: _Draft, categories: Mapping[int | str, str]) -> Box:
    category = _value(row, "category_id")
    if category not in categories:
        raise row.wrong(f"there is no category with the id {category!r}", "add it to 'categories'")
    bbox = _value(row, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(value) for value in bbox):
        raise row.wrong(f"'bbox' is not [x, y, width, height]: {_short(bbox)}")
    x, y, width, height = bbox
    form = "'bbox' is [x, y, width, height] in pixels"
    if width <= 0 or height <= 0:
        raise row.wrong(f"the box has no size: {bbox}", form)
    x1, x2 = (min(max(value, 0), image.width) for value in (x, x + width))
    y1, y2 = (min(max(value, 0), image.height) for value in (y, y + height))
    moved = max(abs(x1 - x), abs(x2 - x - width), abs(y1 - y), abs(y2 - y - height))
    if moved > _TOLERANCE or x1 == x2 or y1 == y2:
        what = f"the box {bbox} lies outside its image of {image.width} x {image.height} pixels ({image.image.name})"
        raise row.wrong(what, form)
    return Box(
        categories[category], x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height,
        crowd=bool(row.values.get("iscrowd", 0)),
    )  # fmt: skip


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _annotation_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The captions and instances files in a folder and its `annotations`, by split."""
    found: dict[str, dict[str, Path]] = {}
    for path in [*sorted(folder.glob("*.json")), *sorted(folder.glob("annotations/*.json"))]:
        if match := re.fullmatch(r"(captions|instances)_(.+)", path.stem):
            found.setdefault(match[2], {})[match[1]] = path
    return found


def _split(split: str, found: Iterable[str], folder: Path) -> str:
    """The split of that name, or the only one that adds a year to it."""
    if split in found:
        return split
    dated = sorted(name for name in found if re.fullmatch(re.escape(split) + r"\d{4}", name))
    if len(dated) == 1:
        return dated[0]
    fix = f"one of: {', '.join(dated)}" if dated else did_you_mean(split, found)
    raise AnnotationError(f"there is no split '{split}'", where=str(folder), fix=fix)
