"""Data sets of 🤗 datasets: of the hub, saved to disk, or a folder that it can load (like its imagefolder)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vistune.errors import AnnotationError
from vistune.formats import Location
from vistune.formats.hub import PREFIX, HubDataset
from vistune.formats.saved import SavedDataset
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, four_numbers, fraction_box, image_files, image_size
from vistune.sources._rows import CAPTIONS, IMAGE, Row, find, given_id, image_name, texts, value_of

_BOX_FORM = "boxes are pixels, [x, y, width, height] or, with --box-format xyxy, [x1, y1, x2, y2]"


@sources.register("datasets")
class Datasets(Stream):
    """The rows of a split; those of the hub (`hub:owner/name`) are streamed, not downloaded first.

    Objects are in the hub's usual form, `{"bbox": [[…]], "category": […]}` or a list of such, in `objects_column`.
    """

    needs_split = True

    def __init__(
        self, path: Path, split: str | None = None, *, on_error: OnError = stop,
        image_column: str | None = None, caption_column: Sequence[str] = (), objects_column: str = "objects",
        box_format: Literal["xywh", "xyxy"] = "xywh", subset: str | None = None,
    ) -> None:  # fmt: skip
        name = path.as_posix()
        super().__init__(Path() if name.startswith(PREFIX) else path, split, on_error=on_error)
        if not self.fits(path):
            fix = "the folder that save_to_disk wrote, an imagefolder, parquet files, or hub:owner/name"
            raise AnnotationError("not a data set of 🤗 datasets", where=name, fix=fix)
        self.path, self.images = path, path if path.is_dir() else Path()
        location = Location(name, AnnotationError, split or "train", subset)
        self._rows = (
            SavedDataset(location).load() if SavedDataset.fits(name) else HubDataset(location).load(streaming=True)
        )
        from datasets import Image  # type: ignore[import-untyped]

        self._features = dict(self._rows.features or {})
        pictures = [column for column, feature in self._features.items() if isinstance(feature, Image)]
        for column in pictures:  # their bytes stay as they are
            self._rows = self._rows.cast_column(column, Image(decode=False))
        self._given = [image_column] if image_column else pictures[:1], tuple(caption_column)
        self._objects, self._form, self._split = objects_column, box_format, split or "train"

    @staticmethod
    def fits(path: Path) -> bool:
        if path.as_posix().startswith(PREFIX):
            return True
        if not path.is_dir():
            return False
        if SavedDataset.fits(str(path)) or next(path.glob("**/*.parquet"), None):
            return True
        meta = any(next(path.glob(f"**/metadata.{ending}"), None) for ending in ("csv", "jsonl"))
        return meta and any(image_files(path))

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        for number, values in enumerate(self._rows):
            row = Row(values, f"{self.path}, split '{self._split}': row {number}")
            try:
                yield self._record(row, number)
            except AnnotationError as error:
                on_error(error)

    def _record(self, row: Row, number: int) -> ImageRecord:
        value = value_of(row, find(row, self._given[0], IMAGE, "images", "--image-column")[0])
        image, key = self._name(row, value, number)
        there = {name.lower() for name in row.values}
        named = self._given[1] or there & {*CAPTIONS}
        columns = find(row, self._given[1], CAPTIONS, "captions", "--caption-column") if named else []
        captions = tuple(text for column in columns for text in texts(row, value_of(row, column)))
        objects = row.values.get(self._objects)
        if not columns and objects is None:
            find(row, (), CAPTIONS, "captions or objects", "--caption-column or --objects-column")
        pairs = list(self._pairs(row, objects))
        size = _size(row, value) if pairs else (0, 0)
        boxes = tuple(
            self._box(category, bbox, size, f"{row.where}, {self._objects}[{place}]")
            for place, (category, bbox) in enumerate(pairs)
        )
        return ImageRecord(key, self.images / image, *size, captions, boxes, row.where)

    def _name(self, row: Row, value: Any, number: int) -> tuple[str, str]:
        """The image's path, which many rows do not have, and the record's id."""
        known = given_id(row)
        if isinstance(value, Mapping) and not value.get("path"):
            name = f"{known or f'{self._split}-{number:08}'}.jpg"
        else:
            name = image_name(row, value)
            if PurePosixPath(name).is_absolute():
                inside = self.images != Path() and Path(name).is_relative_to(self.images.absolute())
                name = str(Path(name).relative_to(self.images.absolute())) if inside else Path(name).name
        return name, known or str(PurePosixPath(name).with_suffix(""))

    def _pairs(self, row: Row, objects: Any) -> Iterator[tuple[Any, Any]]:
        if objects is None:
            return
        if isinstance(objects, list):
            objects = {key: [one.get(key) for one in objects] for key in ("bbox", "category")}
        if not isinstance(objects, Mapping) or not {"bbox", "category"} <= objects.keys():
            keys = ", ".join(objects) if isinstance(objects, Mapping) else type(objects).__name__
            raise row.wrong(f"'{self._objects}' has no 'bbox' and 'category': {keys}")
        names = _class_names(self._features.get(self._objects))
        for category, bbox in zip(objects["category"], objects["bbox"], strict=False):
            yield names[category] if names and isinstance(category, int) and category < len(names) else category, bbox

    def _box(self, category: Any, bbox: Any, size: tuple[int, int], where: str) -> Box:
        x, y, a, b = four_numbers(bbox, where, _BOX_FORM)
        x2, y2 = (x + a, y + b) if self._form == "xywh" else (a, b)
        width, height = size
        return fraction_box(category, [x / width, y / height, x2 / width, y2 / height], where, _BOX_FORM)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel `category` within the feature of the objects."""
    while feature is not None and not isinstance(feature, Mapping):
        feature = getattr(feature, "feature", None)
    category = (feature or {}).get("category")
    while category is not None and not hasattr(category, "names"):
        category = getattr(category, "feature", None)
    return list(category.names) if category is not None else None


def _size(row: Row, image: Any) -> tuple[int, int]:
    """Width and height in the row's columns, or the image's own."""
    size = row.values.get("width"), row.values.get("height")
    if not all(isinstance(side, int) and side > 0 for side in size):
        content = image.get("bytes") if isinstance(image, Mapping) else None
        file = image.get("path") if isinstance(image, Mapping) else image
        found = image_size(io.BytesIO(content)) if content else image_size(str(file))
        if found is None:
            raise row.wrong("the image's size is unknown", "add columns width and height, or the image itself")
        return found
    return int(size[0] or 0), int(size[1] or 0)
