"""Captions and boxes in rows, as LLaVA publishes them.

A row is `{"id", "image", "captions", "instances": [{"category", "bbox"}]}`, with `bbox` [x1, y1, x2, y2] in fractions
of the image's width and height.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import Box
from vistune.sources import sources
from vistune.sources._helpers import fraction_box
from vistune.sources._rows import CAPTIONS, IMAGE, Row, find, has_columns, usual
from vistune.sources.captions import Captions

_INSTANCES = ("instances", "boxes", "objects")
_CATEGORY = ("category", "category_name", "label", "name")
_BBOX = ("bbox", "box")
_FORM = "'bbox' is [x1, y1, x2, y2] in fractions of the image's width and height; pixels are read by --source coco"


@sources.register("caps_boxes")
class CapsBoxes(Captions):
    """The same files and columns as `captions`, with boxes beside the captions or in their place."""

    @staticmethod
    def fits(path: Path) -> bool:
        return has_columns(path, (IMAGE, _INSTANCES))

    def _captions(self, row: Row) -> list[str]:
        return super()._captions(row) if self._given[1] or usual(row, CAPTIONS) else []

    def _boxes(self, row: Row) -> Iterator[Box]:
        column = usual(row, _INSTANCES)
        instances = row.values[column] if column else None
        if not isinstance(instances, list) and instances is not None:
            raise row.wrong(f"'{column}' is not a list", '[{"category": …, "bbox": […]}]')
        for number, instance in enumerate(instances or ()):
            yield _box(instance, f"{row.where}, {column}[{number}]")

    def _check(self, row: Row) -> None:
        super()._check(row)
        find(row, (), _INSTANCES, "boxes", "'instances'")


def _box(instance: object, where: str) -> Box:
    if isinstance(instance, list | tuple) and len(instance) == 2:  # [category, [x1, y1, x2, y2]]
        return fraction_box(instance[0], instance[1], where, _FORM)
    if not isinstance(instance, Mapping):
        raise AnnotationError("this is not an object", where=where, fix='{"category": …, "bbox": […]}')
    category, bbox = (next((instance[key] for key in keys if key in instance), None) for keys in (_CATEGORY, _BBOX))
    return fraction_box(category, bbox, where, _FORM)
