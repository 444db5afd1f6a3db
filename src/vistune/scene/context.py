"""An image in words, the only thing a text-only teacher or judge sees of it (LLaVA, section 3).

Captions, one a line; a blank line; one line per box, `category: [x1, y1, x2, y2]`, in fractions of the image's width
and height with at most three decimals; a crowd's is `category (crowd): […]`. Each text stays on one line, so no
annotator's text can end a part or begin another.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, get_args

from vistune.records import Box, ImageRecord
from vistune.scene.english import well_formed

Part = Literal["captions", "boxes"]
PARTS: tuple[Part, ...] = get_args(Part)

_BOX = re.compile(r"(.+): \[(\d\.\d+), (\d\.\d+), (\d\.\d+), (\d\.\d+)\]")
_CROWD = " (crowd)"
_STEP = 0.001  # the resolution of three decimals


def format_context(record: ImageRecord, parts: Collection[Part] = PARTS) -> str:
    """The context text of `record` with only these `parts`; empty if the record has none of them.

    Boxes without captions follow an empty first part, which keeps the two apart.
    """
    captions = "\n".join(filter(None, map(one_line, record.captions))) if "captions" in parts else ""
    boxes = "\n".join(map(_format_box, record.boxes)) if "boxes" in parts else ""
    return f"{captions}\n\n{boxes}" if boxes else captions


def parse_context(text: str) -> tuple[tuple[str, ...], tuple[Box, ...]]:
    """The captions and boxes of a context text; the inverse of `format_context` up to three decimals.

    Raises ValueError for a line among the boxes that is not a box.
    """
    captions, _, boxes = text.partition("\n\n")
    return tuple(captions.splitlines()), tuple(map(_parse_box, boxes.splitlines()))


def one_line(text: str) -> str:
    """The text in valid UTF-8, with every run of white space, line ends included, as one space."""
    return " ".join(well_formed(text).split())


def _format_box(box: Box) -> str:
    (x1, x2), (y1, y2) = _span(box.x1, box.x2), _span(box.y1, box.y2)
    return f"{one_line(box.category)}{_CROWD * box.crowd}: [{x1}, {y1}, {x2}, {y2}]"


def _span(low: float, high: float) -> tuple[float, float]:
    """Both ends at three decimals; a thinner span is widened to the smallest that has a length."""
    start = min(round(low, 3), 1 - _STEP)
    return start, max(round(high, 3), round(start + _STEP, 3))


def _parse_box(line: str) -> Box:
    found = _BOX.fullmatch(line)
    if not found:
        raise ValueError(f"not a box: '{line}'")
    category, *corners = found.groups()
    x1, y1, x2, y2 = map(float, corners)
    return Box(category.removesuffix(_CROWD), x1, y1, x2, y2, category.endswith(_CROWD))
