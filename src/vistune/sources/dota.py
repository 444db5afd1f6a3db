"""DOTA's labels of aerial images: a text for each image with four corners, a category and its difficulty a line.

See https://captain-whu.github.io/DOTA/dataset.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, read_text
from vistune.sources._reading import Reading, each

_LINE = re.compile(r"((?:-?\d+(?:\.\d+)?[\s,]+){8})([^\d\s,][^\s,]*)(?:[\s,]+[012])?")
_HEADER = ("imagesource:", "gsd:", "acquisition dates:")
_FIRST = 20
_FORM = "a line is 'x1 y1 x2 y2 x3 y3 x4 y4 category difficult', in pixels"


@sources.register("dota")
class Dota(Reading):
    """A folder below which there are such texts (labelTxt/), or one of them; sizes are those of the images."""

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        files = contents.files(".txt")
        if not any(_fits(contents.lines(file)) for file in files[:_FIRST]):
            return []
        folders = {file.parent for file in files[:_FIRST] if _fits(contents.lines(file))}
        return [file for file in files if file.parent in folders or "label" in file.parent.name.lower()]

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        return each(self._files, self._draft, on_error)

    def _draft(self, file: Path) -> Draft:
        lines = [(number, line.strip()) for number, line in enumerate(read_text(file).splitlines(), 1)]
        kept = [(number, line) for number, line in lines if line and not line.lower().startswith(_HEADER)]
        boxes = [_box(line, f"{file}: line {number}") for number, line in kept]
        return Draft(file.stem, (f"{file.stem}.png",), str(file), boxes)


def _fits(lines: list[str]) -> bool:
    filled = [line.strip() for line in lines if line.strip() and not line.lower().startswith(_HEADER)]
    return bool(filled) and all(map(_LINE.fullmatch, filled[:5]))


def _box(line: str, where: str) -> RawBox:
    found = _LINE.fullmatch(line)
    if not found:
        raise AnnotationError(f"this is no object: {line[:60]}", where=where, fix=_FORM)
    values = [float(word) for word in re.split(r"[\s,]+", found[1].strip(" ,\t"))]
    return RawBox(found[2].replace("-", " "), *box_around(values[::2], values[1::2]), where)
