"""Boxes in a table, one a row: TensorFlow's, Open Images', makesense.ai's, VoTT's and Kaggle's CSV files.

A row names its image, its class and its corners, or a corner and width and height, in pixels or fractions; or it has
`bbox`, [x, y, width, height]. See https://storage.googleapis.com/openimages/web/download_v7.html for Open Images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import read_names, read_text
from vistune.sources._reading import Reading
from vistune.sources._rows import IMAGE, ROW_ENDINGS, Row, id_of, image_name, read_rows, sample, usual

_IMAGES = (*IMAGE, "imageid", "image_id", "img_id", "img_name", "imagename", "frame")
_CLASSES = ("class_name", "classname", "class", "label_name", "labelname", "label", "category_name", "category", "name",
            "class_id", "category_id")  # fmt: skip
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"), ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
    ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax"),
)  # fmt: skip
_SIZED = (
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"), ("bbox_left", "bbox_top", "bbox_width", "bbox_height"),
    ("xmin", "ymin", "w", "h"), ("x", "y", "w", "h"), ("x", "y", "width", "height"),
)  # fmt: skip
_SIZES = (("image_width", "image_height"), ("img_width", "img_height"), ("width", "height"))
_WIDE = ("bbox", "box")
_GROUP = "isgroupof"
_FORM = "the columns are: an image, a class, and xmin, ymin, xmax, ymax"


@dataclass(frozen=True)
class _Columns:
    """The names of the columns of a file, and whether its boxes are in pixels."""

    image: str
    category: str | None
    corners: tuple[str, ...]
    sized: bool
    size: tuple[str, ...]
    group: str | None
    pixels: bool = True


@sources.register("box_rows")
class BoxRows(Reading):
    """A CSV file or another table, or a folder with one. Rows without a box stand for an image without objects.

    `category_names` names classes that are numbers, one a line, or codes (Open Images), `code,name` a line; or it holds
    the one class of a file without such a column.
    """

    yields_to: ClassVar[tuple[str, ...]] = ("caps_boxes", "img2dataset")

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None,
        category_names: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(contents, split, default_split=default_split, images=images)
        self._names_file = category_names
        self._check(self._files[0])

    endings = ROW_ENDINGS

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return _columns(sample(contents, file)) is not None

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            columns = _columns(sample(self.contents, file))
            if columns is None:
                continue
            rows = _named(file, columns, on_error)
            if not self._in_order(file, columns):
                rows = iter(sorted(rows, key=itemgetter(0)))
            for name, several in groupby(rows, key=itemgetter(0)):
                try:
                    yield self._draft(name, [row for _, row in several], columns)
                except AnnotationError as error:
                    on_error(error)

    def _in_order(self, file: Path, columns: _Columns) -> bool:
        """Whether the rows of each image follow each other, so that one image is held at a time."""
        if file not in self._orders:
            names = [hash(name) for name, _ in groupby(_named(file, columns, lambda _: None), key=itemgetter(0))]
            self._orders[file] = len(set(names)) == len(names)
        return self._orders[file]

    @cached_property
    def _orders(self) -> dict[Path, bool]:
        return {}

    def _draft(self, name: str, rows: list[Row], columns: _Columns) -> Draft:
        where = rows[0].where
        boxes = [box for row in rows if (box := self._box(row, columns))]
        size = [int(_number(rows[0], column) or 0) for column in columns.size] if columns.pixels else []
        width, height = size or (0, 0)
        return Draft(
            id_of(name, where), (name,), where, boxes, (), width, height, columns.pixels,
            exhaustive=columns.group is None,  # Open Images: only the labels that were verified have boxes
        )  # fmt: skip

    def _box(self, row: Row, columns: _Columns) -> RawBox | None:
        wide = len(columns.corners) == 1
        corners = _listed(row, columns.corners[0]) if wide else [_number(row, one) for one in columns.corners]
        numbers = [corner for corner in corners or () if corner is not None]
        if len(numbers) != 4:
            return None
        x1, y1, a, b = numbers
        x2, y2 = (x1 + a, y1 + b) if columns.sized else (a, b)
        crowd = columns.group is not None and str(row.values[columns.group]) in ("1", "True", "true")
        return RawBox(self._category(row, columns), x1, y1, x2, y2, row.where, crowd)

    def _category(self, row: Row, columns: _Columns) -> str:
        value = str(row.values[columns.category]).strip() if columns.category else ""
        if columns.category is None:
            return next(iter(self._names.values()))
        if value in self._names:
            return self._names[value]
        if not value or value.startswith("/m/") or value.isdigit():
            fix = "name the classes with --category-names FILE: one a line from 0, or code,name"
            raise row.wrong(f"the class has no name: '{value}'", fix)
        return value

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names of codes and numbers: of the option's file, or of Open Images' file beside the boxes."""
        beside = (file for file in self.contents.files(".csv") if "class-descriptions" in file.name)
        near = sorted(self._files[0].parent.glob("*class-descriptions*.csv"))
        file = self._names_file or next(beside, None) or next(iter(near), None)
        if file is None:
            return {}
        pairs = [line.split(",", 1) for line in read_text(file).splitlines() if line.strip()]
        if pairs and all(len(pair) == 2 for pair in pairs):
            return {code.strip(): name.strip().strip('"') for code, name in pairs}
        return {str(number): name for number, name in read_names(file).items()}

    def _check(self, file: Path) -> None:
        columns = _columns(sample(self.contents, file))
        if columns and columns.category is None and len(self._names) != 1:
            fix = "write the name of what is boxed to a file, and give it with --category-names FILE"
            raise AnnotationError("there is no column with classes", where=str(file), fix=fix)


def _columns(rows: list[Row]) -> _Columns | None:
    """The columns by the first rows; None for a table without boxes."""
    if not rows or not (image := usual(rows[0], _IMAGES)):
        return None
    known = {column.lower().strip(): column for column in rows[0].values}
    for forms, sized in ((_CORNERS, False), (_SIZED, True)):
        for form in forms:
            if all(name in known for name in form):
                return _typed(rows, image, tuple(known[name] for name in form), sized=sized)
    wide = next((known[name] for name in _WIDE if name in known), None)
    if wide and any(_listed_or_none(row.values[wide]) for row in rows):
        return _typed(rows, image, (wide,), sized=True)
    return None


def _typed(rows: list[Row], image: str, corners: tuple[str, ...], *, sized: bool) -> _Columns:
    known = {column.lower().strip(): column for column in rows[0].values}
    free = {name: column for name, column in known.items() if column not in corners and column != image}
    size = next((pair for pair in _SIZES if all(name in free for name in pair)), ())
    try:
        values = [value for value in (_number(row, column) for row in rows for column in corners) if value is not None]
    except AnnotationError:
        values = [2.0]  # a list or a mistake: pixels
    category = next((free[name] for name in _CLASSES if name in free), None)
    fractions = bool(values) and max(values) <= 1 and any(value not in (0, 1) for value in values)
    return _Columns(
        image, category, corners, sized, tuple(free[name] for name in size), free.get(_GROUP), not fractions
    )


def _named(file: Path, columns: _Columns, on_error: OnError) -> Iterator[tuple[str, Row]]:
    for row in read_rows(file, on_error):
        try:
            yield image_name(row, str(row.values.get(columns.image) or "")), row
        except AnnotationError as error:
            on_error(error)


def _number(row: Row, column: str) -> float | None:
    """The value of a column; None where it is empty."""
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise row.wrong(f"'{column}' is no number: {str(value)[:40]}", _FORM) from None
    return None if math.isnan(number) else number


def _listed(row: Row, column: str) -> list[float] | None:
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    found = _listed_or_none(value)
    if found is None:
        raise row.wrong(f"'{column}' is not [x, y, width, height]: {str(value)[:40]}")
    return found


def _listed_or_none(value: Any) -> list[float] | None:
    """Four numbers in a list, or in the text of one."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    if isinstance(found, Mapping) or not isinstance(found, list) or len(found) != 4:
        return None
    return [float(one) for one in found] if all(isinstance(one, int | float) for one in found) else None
