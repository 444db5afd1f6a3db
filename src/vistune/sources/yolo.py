"""YOLO's boxes: a text file for each image with `class cx cy w h` a line, in fractions of the image's size.

Polygons (`class x1 y1 x2 y2 x3 y3 …`) become the box around them; what follows the box of a pose, or the confidence
of a prediction, is passed over. See https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources.boxes import fraction_box
from vistune.sources.stream import Stream, read_text
from vistune.sources.yolo_layout import Layout, find_layout, looks_like_yolo

_FORM = "a line is 'class cx cy width height', in fractions of the image's width and height"


@sources.register("yolo")
class Yolo(Stream):
    """A folder with data.yaml or a list of class names, or data.yaml itself; `category_names` is a file of such names.

    An image with an empty label file, or none, has no objects.
    """

    needs_split = True

    def __init__(
        self, path: Path, split: str | None = None, *, on_error: OnError = stop, category_names: Path | None = None
    ) -> None:
        super().__init__(path, split, on_error=on_error)
        self._layout: Layout = find_layout(path, split or "train", category_names)
        self.images = self._layout.root

    @staticmethod
    def fits(path: Path) -> bool:
        """By data.yaml with `names`, or a label file of the format."""
        return looks_like_yolo(path)

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        count = found = 0
        for image, label in self._layout.pairs():
            count += 1
            there = label.is_file()
            found += there
            try:
                if not image.is_relative_to(self.images):
                    raise AnnotationError(f"the image {image} is not below {self.images}", where=str(self.path))
                boxes = tuple(self._boxes(label)) if there else ()
            except AnnotationError as error:
                on_error(error)
                continue
            name = image.relative_to(self.images).with_suffix("").as_posix()
            yield ImageRecord(name, image, 0, 0, (), boxes, str(label))
        if not found:
            what = f"none of the {count:,} images has a label file" if count else "there are no images and no labels"
            fix = "for images/a.jpg it is labels/a.txt"
            raise AnnotationError(what, where=f"{self.path}, split '{self._layout.split}'", fix=fix)

    def _boxes(self, label: Path) -> Iterator[Box]:
        for number, line in enumerate(read_text(label).splitlines(), 1):
            if line.strip():
                yield self._box(line.split(), f"{label}: line {number}")

    def _box(self, words: list[str], where: str) -> Box:
        try:
            number, values = int(float(words[0])), [float(word) for word in words[1:]]
        except ValueError:
            raise AnnotationError(
                f"not all of it are numbers: {' '.join(words)[:60]}", where=where, fix=_FORM
            ) from None
        if number not in self._layout.names:
            what = f"there is no name for the class {number}; names are given for {len(self._layout.names)} classes"
            raise AnnotationError(what, where=where, fix=f"add it to {self._layout.names_file}")
        if self._layout.pose:
            values = values[:4]
        if len(values) in (4, 5):
            cx, cy, width, height = values[:4]
            corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
        elif len(values) >= 6 and len(values) % 2 == 0:
            corners = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        else:
            raise AnnotationError(f"it has {len(words)} numbers", where=where, fix=_FORM)
        if not all(map(math.isfinite, corners)):
            raise AnnotationError("not all of it are finite numbers", where=where, fix=_FORM)
        return fraction_box(self._layout.names[number], corners, where, _FORM)
