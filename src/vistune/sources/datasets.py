"""Data sets of 🤗 datasets: of the hub, saved to disk, or a folder that it can load (like its imagefolder)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from vistune.errors import AnnotationError
from vistune.formats import Location, OnError
from vistune.formats.hub import PREFIX, HubDataset
from vistune.formats.saved import SavedDataset
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import category_name, four_numbers, read_names
from vistune.sources._image_files import read_size
from vistune.sources._reading import Source
from vistune.sources._rows import CAPTIONS, IMAGE, Row, find, given_id, image_name, texts, value_of
from vistune.sources._splits import image_places

OBJECTS = ("objects", "annotations", "instances", "boxes")
_CATEGORIES = ("category", "categories", "category_id", "label", "labels", "class", "class_id")
_BBOXES = ("bbox", "bboxes", "box", "boxes")
_BOX_FORM = "boxes are pixels, [x, y, width, height] or, with --box-format xyxy, [x1, y1, x2, y2]"


@sources.register("datasets")
class Datasets(Source):
    """The rows of a split; those of the hub (`hub:owner/name`) are streamed, not downloaded first.

    Objects are in the hub's usual form, `{"bbox": [[…]], "category": […]}` or a list of such, in `objects_column`.
    Their categories are names, or numbers that the features or the file `category_names` name.
    """

    yields_to: ClassVar[tuple[str, ...]] = ("img2dataset", "webdataset")

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None,
        image_column: str | None = None, caption_column: Sequence[str] = (), objects_column: str | None = None,
        box_format: Literal["xywh", "xyxy"] = "xywh", subset: str | None = None, category_names: Path | None = None,
    ) -> None:  # fmt: skip
        path, name = contents.path, contents.path.as_posix()
        if not self.fits(contents):
            fix = "the folder that save_to_disk wrote, an imagefolder, parquet files, or hub:owner/name"
            raise AnnotationError("not a data set of 🤗 datasets", where=name, fix=fix)
        self.path, self.images = path, images or (path if path.is_dir() else Path())
        self.places = image_places(self.images)
        self._split = split or default_split
        location = Location(name, AnnotationError, self._split, subset)
        self._rows = (
            SavedDataset(location).load() if SavedDataset.fits(name) else HubDataset(location).load(streaming=True)
        )
        from datasets import Image  # type: ignore[import-untyped]

        self._features = dict(self._rows.features or {})
        pictures = [column for column, feature in self._features.items() if isinstance(feature, Image)]
        for column in pictures:  # their bytes stay as they are
            self._rows = self._rows.cast_column(column, Image(decode=False))
        self._given = [image_column] if image_column else pictures[:1], tuple(caption_column)
        self._objects, self._form = objects_column, box_format
        self._names = read_names(category_names) if category_names else None

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        path = contents.path
        if path.as_posix().startswith(PREFIX):
            return True
        if not path.is_dir():
            return False
        if SavedDataset.fits(str(path)) or contents.files(".parquet"):
            return True
        metadata = any(file.stem == "metadata" for file in contents.some(".csv", ".jsonl"))
        return metadata and bool(contents.images)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for number, values in enumerate(self._rows):
            row = Row(values, f"{self.path}, split '{self._split}': row {number}")
            try:
                yield self._draft(row, number)
            except AnnotationError as error:
                on_error(error)

    def _draft(self, row: Row, number: int) -> Draft:
        value = value_of(row, find(row, self._given[0], IMAGE, "images", "--image-column")[0])
        image, key = self._name(row, value, number)
        there = {name.lower() for name in row.values}
        named = self._given[1] or there & {*CAPTIONS}
        columns = find(row, self._given[1], CAPTIONS, "captions", "--caption-column") if named else []
        captions = tuple(text for column in columns for text in texts(row, value_of(row, column)))
        objects = self._objects or next((name for name in OBJECTS if name in row.values), None)
        if not columns and objects is None:
            find(row, (), CAPTIONS, "captions or objects", "--caption-column or --objects-column")
        pairs = list(self._pairs(row, objects)) if objects else []
        size = _size(row, value) if pairs else (0, 0)
        boxes = tuple(
            self._box(category, bbox, f"{row.where}, {objects}[{place}]")
            for place, (category, bbox) in enumerate(pairs)
        )
        return Draft(key, (image,), row.where, boxes, captions, *size)

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

    def _pairs(self, row: Row, column: str) -> Iterator[tuple[Any, Any]]:
        """The category and the box of each object."""
        objects = value_of(row, column)
        if objects is None:
            return
        if isinstance(objects, list):
            objects = {key: [one.get(key) for one in objects] for key in (objects[0] if objects else ())}
        keys = objects.keys() if isinstance(objects, Mapping) else set()
        names, boxes = (next((key for key in known if key in keys), None) for known in (_CATEGORIES, _BBOXES))
        if not objects:
            return
        if names is None or boxes is None:
            shown = ", ".join(keys) or type(objects).__name__
            raise row.wrong(f"'{column}' has no 'bbox' and 'category': {shown}")
        known = self._names or _class_names(self._features.get(column), names)
        for category, bbox in zip(objects[names], objects[boxes], strict=False):
            yield self._category(row, category, known), bbox

    def _category(self, row: Row, category: Any, names: Mapping[int, str] | None) -> Any:
        if isinstance(category, bool) or not isinstance(category, int):
            return category
        if names is None:
            fix = "give their names, one a line from the class 0, with --category-names FILE"
            raise row.wrong(f"the categories are numbers without names, such as {category}", fix)
        if category not in names:
            raise row.wrong(f"there is no name for the category {category}; {len(names)} have names")
        return names[category]

    def _box(self, category: Any, bbox: Any, where: str) -> RawBox:
        x, y, a, b = four_numbers(bbox, where, _BOX_FORM)
        x2, y2 = (x + a, y + b) if self._form == "xywh" else (a, b)
        return RawBox(category_name(category, where), x, y, x2, y2, where)


def _class_names(feature: Any, key: str) -> dict[int, str] | None:
    """The names of a ClassLabel `key` within the feature of the objects."""
    while feature is not None and not isinstance(feature, Mapping):
        feature = getattr(feature, "feature", None)
    category = (feature or {}).get(key)
    while category is not None and not hasattr(category, "names"):
        category = getattr(category, "feature", None)
    return dict(enumerate(category.names)) if category is not None else None


def _size(row: Row, image: Any) -> tuple[int, int]:
    """Width and height in the row's columns, or the image's own; 0 where a file has to say it."""
    width, height = row.values.get("width"), row.values.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    content = image.get("bytes") if isinstance(image, Mapping) else None
    file = image.get("path") if isinstance(image, Mapping) else image
    found = read_size(io.BytesIO(content)) if content else read_size(Path(str(file)))
    return found.upright if found else (0, 0)
