"""KITTI's labels: a text for each image, an object a line with its type, and its box in pixels in columns 5 to 8.

See https://www.cvlibs.net/datasets/kitti/eval_object.php. Regions that were not annotated (DontCare) are left out.
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
from vistune.sources._helpers import read_text
from vistune.sources._reading import Reading, each

_LINE = re.compile(r"[^\d\s]\S*(\s+-?\d+(\.\d+)?(e[-+]?\d+)?){14,15}\s*", re.IGNORECASE)
_FIRST = 20
_NOT_ANNOTATED = "DontCare"
_FORM = "a line is 'type truncated occluded alpha left top right bottom …', 15 values"


@sources.register("kitti")
class Kitti(Reading):
    """A folder below which there are such texts (label_2/ beside image_2/), or one of them."""

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        files = contents.files(".txt")
        folders = {file.parent for file in files[:_FIRST] if _fits(contents.lines(file))}
        return [file for file in files if file.parent in folders]

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        return each(self._files, self._draft, on_error)

    def _draft(self, file: Path) -> Draft:
        lines = enumerate(read_text(file).splitlines(), 1)
        boxes = [_box(line.split(), f"{file}: line {number}") for number, line in lines if line.strip()]
        kept = [box for box in boxes if box.category != _NOT_ANNOTATED]
        return Draft(file.stem, (f"{file.stem}.png",), str(file), kept)


def _fits(lines: list[str]) -> bool:
    filled = [line for line in lines if line.strip()]
    return bool(filled) and all(map(_LINE.fullmatch, filled[:5]))


def _box(words: list[str], where: str) -> RawBox:
    try:
        x1, y1, x2, y2 = map(float, words[4:8])
    except ValueError:
        raise AnnotationError(f"this is no object: {' '.join(words)[:60]}", where=where, fix=_FORM) from None
    return RawBox(words[0], x1, y1, x2, y2, where)
