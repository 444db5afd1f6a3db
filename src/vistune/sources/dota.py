"""DOTA's labels of aerial images: a text for each image with four corners, a category and its difficulty a line.

See https://captain-whu.github.io/DOTA/dataset.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, read_text
from vistune.sources._reading import ReadingEach

_LINE = re.compile(r"((?:-?\d+(?:\.\d+)?[\s,]+){8})([^\d\s,][^,]*?)(?:[\s,]+[012])?")
_HEADER = ("imagesource:", "gsd:", "acquisition dates:")
_FORM = "a line is 'x1 y1 x2 y2 x3 y3 x4 y4 category difficult', in pixels"


@sources.register("dota")
class Dota(ReadingEach):
    """A folder below which there are such texts (labelTxt/), or one of them; sizes are those of the images."""

    endings = (".txt",)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        filled = [line.strip() for _, line in _objects(contents.lines(file))]
        return bool(filled) and all(map(_LINE.fullmatch, filled[:5]))

    def _draft(self, file: Path) -> Draft:
        lines = _objects(read_text(file).splitlines())
        boxes = [_box(line, f"{file}: line {number}") for number, line in lines]
        return Draft(self._id(file), self._names(file, f"{file.stem}.png"), str(file), boxes)


def _objects(lines: Iterable[str]) -> list[tuple[int, str]]:
    """The lines but for those about the photograph, with their numbers."""
    filled = ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    return [(number, line) for number, line in filled if not line.lower().startswith(_HEADER)]


def _box(line: str, where: str) -> RawBox:
    found = _LINE.fullmatch(line)
    if not found:
        raise AnnotationError(f"this is no object: {line[:60]}", where=where, fix=_FORM)
    values = [float(word) for word in re.split(r"[\s,]+", found[1].strip(" ,\t"))]
    return RawBox(found[2].replace("-", " "), *box_around(values[::2], values[1::2]), where)
