"""YOLO's boxes: a text file for each image with `class cx cy w h` a line, in fractions of the image's size.

Polygons (`class x1 y1 x2 y2 x3 y3 …`, also of turned boxes) become the box around them; the keypoints after the box of
a pose and the confidence of a prediction are skipped. Images, labels and class names lie as data.yaml or Darknet's
obj.data says, or in one of the usual layouts. See https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, read_text
from vistune.sources._reading import Source
from vistune.sources._yolo_layout import NO_LABELS, Layout, find_layout, is_settings, settings_files

_FORM = "a line is 'class cx cy width height', in fractions of the image's width and height"
_LABEL = re.compile(r"\d+(\.0*)?(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_FIRST = 50


@sources.register("yolo")
class Yolo(Source):
    """A folder with data.yaml, obj.data or a list of class names, or such a file; `category_names` is a file of names.

    An image with an empty label file, or none, has no objects.
    """

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None,
        category_names: Path | None = None,
    ) -> None:  # fmt: skip
        self.path = contents.path
        self._layout: Layout = find_layout(contents, split, default_split, images, category_names)
        self.images = images or self._layout.root
        self.places = (self.images, *self._layout.places)

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        if settings_files(contents):
            return True
        if contents.path.is_file():
            return contents.path.suffix in (".yaml", ".yml", ".data") and is_settings(contents.path)
        texts = [file for file in contents.files(".txt") if file.name not in NO_LABELS and file.suffix == ".txt"]
        return any(_is_label(contents.lines(file)) for file in texts[:_FIRST])

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        count = found = 0
        for image, label in self._layout.pairs():
            count += 1
            has_label = label.is_file()
            found += has_label
            try:
                boxes = tuple(self._boxes(label)) if has_label else ()
            except AnnotationError as error:
                on_error(error)
                continue
            inside = image.relative_to(self.images) if image.is_relative_to(self.images) else Path(image.name)
            yield Draft(inside.with_suffix("").as_posix(), (str(image),), str(label), boxes, pixels=False)
        if not found:
            what = f"none of the {count:,} images has a label file" if count else "there are no images and no labels"
            fix = "for images/a.jpg it is labels/a.txt"
            raise AnnotationError(what, where=f"{self.path}, split '{self._layout.split}'", fix=fix)

    def _boxes(self, label: Path) -> Iterator[RawBox]:
        for number, line in enumerate(read_text(label).splitlines(), 1):
            if line.strip():
                yield self._box(line.split(), f"{label}: line {number}")

    def _box(self, words: list[str], where: str) -> RawBox:
        try:
            number, values = int(float(words[0])), [float(word) for word in words[1:]]
            if number != float(words[0]):
                raise ValueError(words[0])
        except (ValueError, OverflowError):
            what = f"the class is no whole number, or not all values are numbers: {' '.join(words)[:60]}"
            raise AnnotationError(what, where=where, fix=_FORM) from None
        if number not in self._layout.names:
            what = f"there is no name for the class {number}; {len(self._layout.names)} classes have names"
            raise AnnotationError(what, where=where, fix=f"add it to {self._layout.names_file}")
        if self._layout.pose:
            values = values[:4]
        if len(values) in (4, 5):
            cx, cy, width, height = values[:4]
            corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        elif len(values) >= 6:  # an odd last value is a confidence
            corners = box_around(values[: len(values) // 2 * 2 : 2], values[1::2])
        else:
            raise AnnotationError(f"it has {len(words)} numbers", where=where, fix=_FORM)
        if not all(map(math.isfinite, corners)):
            raise AnnotationError("not all values are finite numbers", where=where, fix=_FORM)
        return RawBox(self._layout.names[number], *corners, where)


def _is_label(lines: list[str]) -> bool:
    filled = [line for line in lines if line.strip()]
    return bool(filled) and all(_LABEL.fullmatch(line.strip()) for line in filled[:5])
