"""Boxes of whatever format as fractions of the image, checked."""

from __future__ import annotations

import math
from typing import Any

from vistune.errors import AnnotationError
from vistune.records import Box

_EXCESS = 0.01
"""So much of an image's side a box may stick out, by rounding; it is clipped."""


def fraction_box(category: Any, corners: Any, where: str, form: str, excess: float = _EXCESS) -> Box:
    """The box with `corners` [x1, y1, x2, y2] in fractions of the image's size.

    Raises AnnotationError for what is no box or lies outside; `form` says in its fix what is expected.
    """
    if not isinstance(category, str) or not category.strip():
        raise AnnotationError(f"the category is no text: {category!r}", where=where)
    if not isinstance(corners, list | tuple) or len(corners) != 4 or not all(map(is_number, corners)):
        raise AnnotationError(f"a box is not four numbers: {str(corners)[:60]}", where=where, fix=form)
    x1, y1, x2, y2 = map(float, corners)
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        shown = [round(float(corner), 4) for corner in corners]
        if min(x1, y1) < -excess or max(x2, y2) > 1 + excess:
            raise AnnotationError(f"the box {shown} of '{category}' lies outside its image", where=where, fix=form)
        x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in (x1, y1, x2, y2))
        if x1 >= x2 or y1 >= y2:
            raise AnnotationError(f"the box {shown} of '{category}' has no size", where=where, fix=form)
    return Box(category.strip(), x1, y1, x2, y2)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    return number and math.isfinite(value)
