"""Captions and boxes in rows, as LLaVA publishes them.

A row is `{"id", "image", "captions", "instances": [{"category", "bbox"}]}`, with `bbox` [x1, y1, x2, y2] in fractions
of the image's width and height.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import AnnotationError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import RawBox
from vistune.sources._helpers import category_name, four_numbers
from vistune.sources._rows import CAPTIONS, IMAGE, ROW_ENDINGS, Row, find, sample, usual
from vistune.sources.captions import Captions

_INSTANCES = ("instances", "boxes", "objects")
_CATEGORY = ("category", "category_name", "label", "name")
_BBOX = ("bbox", "box")
_FORM = "'bbox' is [x1, y1, x2, y2] in fractions of the image's width and height; pixels are read by --source coco"


@sources.register("caps_boxes")
class CapsBoxes(Captions):
    """The same files and columns as `captions`, with boxes beside the captions or in their place."""

    yields_to: ClassVar[tuple[str, ...]] = ("visual_genome", "label_studio")

    endings = ROW_ENDINGS

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return any(map(_has_boxes, sample(contents, file)))

    def _captions(self, row: Row) -> list[str]:
        return super()._captions(row) if self._columns[1] or usual(row, CAPTIONS) else []

    def _boxes(self, row: Row) -> Iterator[RawBox]:
        column = usual(row, _INSTANCES)
        instances = row.values[column] if column else None
        if not isinstance(instances, list) and instances is not None:
            raise row.wrong(f"'{column}' is not a list", '[{"category": …, "bbox": […]}]')
        for number, instance in enumerate(instances or ()):
            yield _box(instance, f"{row.where}, {column}[{number}]")

    def _check(self, row: Row) -> None:
        super()._check(row)
        find(row, (), _INSTANCES, "boxes", "'instances'")


def _has_boxes(row: Row) -> bool:
    column = usual(row, _INSTANCES)
    instances = row.values[column] if column and usual(row, IMAGE) else None
    return isinstance(instances, list) and (not instances or _parts(instances[0]) is not None)


def _parts(instance: Any) -> tuple[Any, Any] | None:
    """The category and the corners; None where these are not there."""
    if isinstance(instance, list | tuple) and len(instance) == 2:  # [category, [x1, y1, x2, y2]]
        return instance[0], instance[1]
    if not isinstance(instance, Mapping):
        return None
    category, bbox = (next((instance[key] for key in keys if key in instance), None) for keys in (_CATEGORY, _BBOX))
    return None if category is None and bbox is None else (category, bbox)


def _box(instance: object, where: str) -> RawBox:
    parts = _parts(instance)
    if parts is None:
        raise AnnotationError("this is not an object", where=where, fix='{"category": …, "bbox": […]}')
    crowd = isinstance(instance, Mapping) and bool(instance.get("iscrowd"))
    return RawBox(category_name(parts[0], where), *four_numbers(parts[1], where, _FORM), where, crowd)
