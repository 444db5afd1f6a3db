"""What the sources have in common: reading record by record, image files, boxes, small files, error messages."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import AnnotationError, did_you_mean
from vistune.formats import IMAGE_ENDINGS, not_utf8, stop
from vistune.records import Box, ImageRecord

OnError = Callable[[AnnotationError], None]
"""Gets the error of a bad record: raises it, or notes it so that the record is left out."""
_EXCESS = 0.01
"""The share of an image's side by which a box may leave the image, by rounding; it is clipped."""
_MANY_FILES = 5000
"""Comparing a name with more takes seconds."""


class Stream(ABC):
    """A source that reads its files again for every pass and holds one record at a time.

    Errors come in the order of the files, so counting those given to `on_error` is enough to report each bad record
    once, however many passes there are.
    """

    needs_split: ClassVar[bool] = False
    images: Path

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        if not path.exists():
            raise missing(path)
        self.path, self.split = path, split
        self._on_error, self._reported = on_error, 0

    def __iter__(self) -> Iterator[ImageRecord]:
        count = 0

        def once(error: AnnotationError) -> None:
            nonlocal count
            count += 1
            if count > self._reported:
                self._reported = count
                self._on_error(error)

        return self._read(once)

    @abstractmethod
    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        """The records of one pass."""


def missing(path: Path) -> AnnotationError:
    """The error for a path that does not exist."""
    return AnnotationError("there is no such file or folder", where=str(path), fix=closest(path))


def no_split(split: str | None, known: list[str], where: Path) -> AnnotationError:
    """The error for a split that does not exist."""
    fix = did_you_mean(split or "", known) if known else "leave --split out: this format has no splits"
    return AnnotationError(f"there is no split '{split}'", where=str(where), fix=fix)


def closest(path: Path) -> str:
    """A suggestion for a mistyped path out of the other names in its folder."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    names = [name for name in names if name != path.name]  # a broken link has its own name
    close = difflib.get_close_matches(path.name, names, n=1) if len(names) <= _MANY_FILES else []
    return f"did you mean '{close[0]}'?" if close else ""


def read_bytes(path: Path) -> bytes:
    """The content of an annotation file. Raises AnnotationError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError("there is no such file", where=str(path), fix=closest(path)) from None
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}", where=str(path)) from None


def read_text(path: Path) -> str:
    """The text of an annotation file. Raises AnnotationError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(error, str(path), AnnotationError) from None


def image_files(folder: Path) -> Iterator[Path]:
    """The images below a folder, folder by folder, by name; hidden ones are skipped."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    yield from (entry for entry in entries if entry.suffix.lower() in IMAGE_ENDINGS and entry.is_file())
    for entry in entries:
        if entry.is_dir():
            yield from image_files(entry)


def image_size(file: object) -> tuple[int, int] | None:
    """Width and height in pixels of an image file (a path or an open file) from its head; None if unreadable."""
    from PIL import Image

    try:
        with Image.open(file) as image:  # type: ignore[arg-type]
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def fraction_box(category: Any, corners: Any, where: str, form: str, excess: float = _EXCESS) -> Box:
    """The box with `corners` [x1, y1, x2, y2] in fractions of the image's size.

    Raises AnnotationError for anything else, and for a box outside; `form` is the fix, the expected form.
    """
    if not isinstance(category, str) or not category.strip():
        raise AnnotationError(f"the category is not a text: {category!r}", where=where)
    x1, y1, x2, y2 = four_numbers(corners, where, form)
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        shown = [round(corner, 4) for corner in (x1, y1, x2, y2)]
        if min(x1, y1) < -excess or max(x2, y2) > 1 + excess:
            raise AnnotationError(f"the box {shown} of '{category}' lies outside its image", where=where, fix=form)
        x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in (x1, y1, x2, y2))
        if x1 >= x2 or y1 >= y2:
            raise AnnotationError(f"the box {shown} of '{category}' has no size", where=where, fix=form)
    return Box(category.strip(), x1, y1, x2, y2)


def four_numbers(values: Any, where: str, form: str) -> tuple[float, float, float, float]:
    """The values, if they are four finite numbers. Raises AnnotationError with `form` as the fix."""
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(is_number, values)):
        raise AnnotationError(f"a box is not four numbers: {str(values)[:60]}", where=where, fix=form)
    first, second, third, fourth = map(float, values)
    return first, second, third, fourth


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    return number and math.isfinite(value)
