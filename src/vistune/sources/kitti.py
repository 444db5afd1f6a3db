"""KITTI's labels: a text for each image, an object a line with its type, and its box in pixels in columns 5 to 8.

See https://www.cvlibs.net/datasets/kitti/eval_object.php. Regions that were not annotated (DontCare) are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import read_text
from vistune.sources._reading import ReadingEach

_LINE = re.compile(r"([^\d\s][^\n]*?)((?:\s+-?\d+(?:\.\d+)?(?:e[-+]?\d+)?){14,15})\s*", re.IGNORECASE)
_NOT_ANNOTATED = "DontCare"
_FORM = "a line is 'type truncated occluded alpha left top right bottom …', 15 values"


@sources.register("kitti")
class Kitti(ReadingEach):
    """A folder below which there are such texts (label_2/ beside image_2/), or one of them."""

    endings = (".txt",)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        filled = [line for line in contents.lines(file) if line.strip()]
        return bool(filled) and all(map(_LINE.fullmatch, filled[:5]))

    def _draft(self, file: Path) -> Draft:
        lines = enumerate(read_text(file).splitlines(), 1)
        boxes = [_box(line, f"{file}: line {number}") for number, line in lines if line.strip()]
        kept = [box for box in boxes if box.category != _NOT_ANNOTATED]
        return Draft(self._id(file), self._names(file, f"{file.stem}.png"), str(file), kept)


def _box(line: str, where: str) -> RawBox:
    found = _LINE.fullmatch(line)
    if not found:
        raise AnnotationError(f"this is no object: {line[:60]}", where=where, fix=_FORM)
    x1, y1, x2, y2 = map(float, found[2].split()[3:7])
    return RawBox(found[1], x1, y1, x2, y2, where)
