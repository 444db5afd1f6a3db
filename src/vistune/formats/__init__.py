"""Files as rows and rows as files. What a row means is up to the reader: `sources` and `data`.

One format a file. `conversations` writes what the package makes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from vistune.errors import VistuneError
from vistune.reading import in_format, open_file
from vistune.registry import Registry

T = TypeVar("T")

OnError = Callable[[Any], None]
"""Gets the error of a bad row: raises it, or notes it so that the row is left out."""
Place = tuple[int, int, int]
"""Where a row is: a number (row, line, shard), and for files that are read in pieces its offset and length in bytes."""
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""The endings of image files."""


@dataclass(frozen=True, slots=True)
class Location:
    """Which rows to read, and the class of the errors about them."""

    path: str
    """A file, a folder, or `hub:owner/name`."""
    error: type[VistuneError]
    split: str | None = None
    subset: str | None = None
    columns: tuple[str, ...] = ()
    """The columns to read of a table; none: all."""

    @property
    def label(self) -> str:
        """What error messages call it."""
        chosen = ", ".join(name for name in (self.subset, self.split) if name)
        return f"{self.path} [{chosen}]" if chosen else self.path

    @contextmanager
    def open(self, path: Path) -> Iterator[BufferedReader]:
        """A file of it in binary; the location's error if it is no regular file, or cannot be read."""
        with open_file(path, self.error) as file:
            yield file


class Row(NamedTuple):
    """One row: a dict in a sound file, with what error messages call its place."""

    values: Any
    where: str
    place: Place


class Format(ABC):
    """The rows of a file, a folder or a data set of the hub, in order, read in bounded memory.

    What is missing or broken is an error of the location's class that names file and row.
    """

    options: ClassVar[tuple[str, ...]] = ()
    """Which of `split` and `subset` the format has."""
    random_access: ClassVar[bool] = True
    """Whether `read` works."""

    def __init__(self, location: Location) -> None:
        self._location, self._path, self.label = location, Path(location.path), location.label

    @staticmethod
    @abstractmethod
    def fits(path: str) -> bool:
        """Whether `path` is in this format, by its name or, for a folder, by its files."""

    @abstractmethod
    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:
        """Every row once. A bad row goes to `on_error`; what ends the reading raises.

        An embedded image's bytes are not read: with `images` one byte stands for them, without they may be missing.
        """

    def read(self, place: Place) -> Row:
        """The row at a place that `scan` gave, with the bytes of its images."""
        raise NotImplementedError

    def columns(self) -> list[str] | None:
        """The names of a table's columns; None where each row has its own keys."""
        return None


formats: Registry[type[Format]] = Registry("file format", "vistune.formats")


def fitting(path: str) -> list[str]:
    """The names of the formats that `path` may be in."""
    return [name for name in formats.names() if formats.get(name).fits(path)]


def read_objects(path: Path, error: type[VistuneError]) -> Iterator[Row]:
    """The rows, each a dict, of a JSON list, JSON lines, CSV or parquet. Raises `error` with file and row."""
    known = [name for name in fitting(str(path)) if name not in ("webdataset", "hub", "saved")]
    if not path.is_file() or not known:
        what = "not a file of rows" if path.exists() else "there is no such file"
        raise error(what, where=str(path), fix="rows are read from .json, .jsonl, .csv, .tsv, .xlsx and .parquet")
    for row in formats.get(known[0])(Location(str(path), error)).scan(stop):
        if not isinstance(row.values, dict):
            raise error("this is not an object", where=row.where, fix='write each record as {"key": …}')
        yield row


def read_as(path: Path, error: type[VistuneError], make: Callable[[Row], T]) -> Iterator[T]:
    """What `make` makes of each row of `read_objects`. Raises `error`, with the row, for a value of a wrong type."""
    for row in read_objects(path, error):
        with in_format(row.where, error):
            made = make(row)
        yield made


def stop(error: VistuneError) -> None:
    """The strict way with a bad row: its error ends the reading."""
    raise error


def read_slice(path: Path, place: Place) -> bytes:
    """The bytes at a place of a file. They are read, not mapped: memory does not grow with what was read."""
    with path.open("rb", buffering=0) as file:
        file.seek(place[1])
        return file.read(place[2])
