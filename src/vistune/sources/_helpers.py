"""What the sources have in common: small files, numbers, error messages."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vistune import reading
from vistune.errors import AnnotationError
from vistune.formats import Location
from vistune.formats._json_stream import JsonStream

_Corners = tuple[float, float, float, float]
_LARGEST = sys.float_info.max
_MANY_FILES = 5000
"""Comparing a name with more takes seconds."""


def missing(path: Path) -> AnnotationError:
    """The error for a path that does not exist."""
    return AnnotationError("there is no such file or folder", where=str(path), fix=closest(path) or "check the path")


def closest(path: Path) -> str:
    """A suggestion for a mistyped path out of the other names in its folder."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    names = [name for name in names if name != path.name]  # a broken link has its own name
    close = difflib.get_close_matches(path.name, names, n=1) if len(names) <= _MANY_FILES else []
    return f"did you mean '{close[0]}'?" if close else ""


def read_bytes(path: Path) -> bytes:
    """The content of an annotation file. Raises AnnotationError."""
    if not path.exists():
        raise missing(path)
    return reading.read_bytes(path, AnnotationError)


def read_text(path: Path) -> str:
    """The text of an annotation file. Raises AnnotationError."""
    if not path.exists():
        raise missing(path)
    return reading.read_text(path, AnnotationError)


def four_numbers(values: Any, where: str, form: str) -> _Corners:
    """The values, if they are four finite numbers. Raises AnnotationError with `form` as the fix."""
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(is_number, values)):
        raise AnnotationError(f"a box is not four numbers: {str(values)[:60]}", where=where, fix=form)
    first, second, third, fourth = map(float, values)
    return first, second, third, fourth


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def category_name(value: Any, where: str) -> str:
    """The value, if it is a text. Raises AnnotationError."""
    if not isinstance(value, str) or not value.strip():
        raise AnnotationError(f"the category is not a text: {value!r}", where=where)
    return value.strip()


def box_around(xs: Sequence[float], ys: Sequence[float]) -> _Corners:
    """The corners x1, y1, x2, y2 of the box around points."""
    return min(xs), min(ys), max(xs), max(ys)


def read_names(path: Path) -> dict[int, str]:
    """The names of classes in a file by their number: one a line from 0. Raises AnnotationError."""
    return dict(enumerate(filter(None, map(str.strip, read_text(path).splitlines()))))


@contextmanager
def json_stream(file: Path) -> Iterator[JsonStream]:
    """A JSON file, to be read piece by piece. Raises AnnotationError."""
    location = Location(str(file), AnnotationError)
    with location.open(file) as opened:
        yield JsonStream(opened, location)


def turned_box(box: tuple[float, float, float, float], degrees: float, around: tuple[float, float]) -> _Corners:
    """The corners of the box around a box that is turned clockwise about a point."""
    x1, y1, x2, y2 = box
    (x0, y0), angle = around, math.radians(degrees)
    points = [(x - x0, y - y0) for x in (x1, x2) for y in (y1, y2)]
    xs = [x0 + x * math.cos(angle) - y * math.sin(angle) for x, y in points]
    ys = [y0 + x * math.sin(angle) + y * math.cos(angle) for x, y in points]
    return box_around(xs, ys)
