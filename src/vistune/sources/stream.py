"""What the sources that read their files record by record have in common."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from vistune.errors import AnnotationError
from vistune.records import ImageRecord
from vistune.sources import OnError, stop

_ENCODING = "save it as UTF-8"
_MANY_FILES = 5000  # comparing a name with more takes seconds


class Stream(ABC):
    """A source that reads its files again for every pass and holds one record at a time.

    Errors come in the order of the files, so it is enough to count how many were given to `on_error` before: each
    bad record is told once, however many passes there are.
    """

    needs_split: ClassVar[bool] = False
    images: Path

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        if not path.exists():
            raise AnnotationError("there is no such file or folder", where=str(path), fix=closest(path))
        self.path, self.split = path, split
        self._tell, self._told = on_error, 0

    def __iter__(self) -> Iterator[ImageRecord]:
        count = 0

        def once(error: AnnotationError) -> None:
            nonlocal count
            count += 1
            if count > self._told:
                self._told = count
                self._tell(error)

        return self._read(once)

    @abstractmethod
    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        """The records of one pass."""


def closest(path: Path) -> str:
    """A suggestion for a mistyped path out of what its folder holds."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1) if len(names) <= _MANY_FILES else []
    return f"did you mean '{close[0]}'?" if close else ""


def read_text(path: Path) -> str:
    """A small annotation file's text. Raises AnnotationError."""
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise AnnotationError("there is no such file", where=str(path), fix=closest(path)) from None
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise not_utf8(error, str(path)) from None


def not_json(error: Exception, where: str) -> AnnotationError:
    """The error for a text that is no JSON, by its decoder's."""
    fix = _ENCODING if isinstance(error, UnicodeDecodeError) else ""
    return AnnotationError(f"not valid JSON: {error}", where=where, fix=fix)


def not_utf8(error: UnicodeDecodeError, where: str) -> AnnotationError:
    """The error for a text in another encoding, like Latin-1 or Excel's UTF-16."""
    return AnnotationError(f"this is no text in UTF-8 ({error.reason})", where=where, fix=_ENCODING)
