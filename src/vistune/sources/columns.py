"""Which column of a row holds what: by the usual names, or as the user says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vistune.errors import AnnotationError, did_you_mean
from vistune.scene.context import one_line
from vistune.scene.english import well_formed
from vistune.sources.rows import Row

IMAGE = (
    "image", "image_path", "img_path", "image_file", "image_name", "file_name", "filename", "filepath", "file_path",
    "file", "path", "img", "picture", "url", "image_url", "img_url",
)  # fmt: skip
"""The usual names of the column with an image's path, the likeliest first; upper and lower case are the same."""
CAPTIONS = (
    "captions", "caption", "sentences", "sentence", "texts", "text", "descriptions", "description", "alt_text", "alt",
    "comment", "title",
)  # fmt: skip
"""The usual names of the column with captions."""
IDS = ("id", "image_id", "img_id", "key", "uid")
"""The usual names of the column with an image's id."""


def find(row: Row, given: Iterable[str], names: tuple[str, ...], what: str, option: str) -> list[str]:
    """The columns of the row that the user named, or the first with a usual name. Raises AnnotationError."""
    wanted = list(given)
    for name in wanted:
        if _missing(row.values, name):
            raise row.wrong(f"there is no column '{name}'", did_you_mean(name, row.values))
    if wanted:
        return wanted
    found = usual(row, names)
    if found is None:
        fix = f"name it with {option}; the columns are {', '.join(row.values)}"
        raise row.wrong(f"there is no column with {what} that is known by its name", fix)
    return [found]


def usual(row: Row, names: tuple[str, ...]) -> str | None:
    """The column with the first of these usual names that there is."""
    return _first(tuple(row.values), names)


def value_of(row: Row, name: str) -> Any:
    """The value of a column; `a.b` is `b` within `a`, in each element where `a` is a list. Raises AnnotationError."""
    if name in row.values:
        return row.values[name]
    value: Any = row.values
    for part in name.split("."):
        try:
            value = [one[part] for one in value] if isinstance(value, list) else value[part]
        except (KeyError, TypeError):
            there = list(value) if isinstance(value, Mapping) else row.values
            raise row.wrong(f"there is no column '{name}'", did_you_mean(part, there)) from None
    return value


def texts(row: Row, value: Any) -> Iterator[str]:
    """The captions in a value: a text, a list of texts, or nothing, each on one line. Raises AnnotationError."""
    if value is None:
        return
    if isinstance(value, str):
        if line := one_line(value):
            yield line
    elif isinstance(value, list):
        for one in value:
            yield from texts(row, one)
    else:
        raise row.wrong(f"a caption is no text: {str(value)[:60]}", "name the column of texts, e.g. sentences.raw")


def image_name(row: Row, value: Any) -> str:
    """An image's path; of an address `https://host/a/b.jpg` `host/a/b.jpg`, where `wget -x` would put the file."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        raise row.wrong(f"the image is no path: {str(value)[:60]}", "name the column of paths with --image-column")
    name = value.strip()
    if name.startswith(("http://", "https://")):
        address = urlsplit(name)
        return f"{address.netloc}{unquote(address.path)}"
    name = name.removeprefix("./")
    return str(PurePosixPath(name)) if "//" in name or "/./" in name else name


def record_id(row: Row, image: str) -> str:
    """The id that the row has, or the image's path without its ending."""
    known = _lower(tuple(row.values))
    for name in IDS:
        value = row.values[known[name]] if name in known else None
        if isinstance(value, str | int) and not isinstance(value, bool) and (text := str(value).strip()):
            return well_formed(text)
    try:
        return well_formed(str(PurePosixPath(image).with_suffix("")))
    except ValueError:  # it has no name
        raise row.wrong(f"the image is no file's path: '{image}'") from None


@lru_cache(maxsize=256)  # the rows of a file have the same columns
def _lower(columns: tuple[str, ...]) -> Mapping[str, str]:
    return {column.lower(): column for column in columns}


@lru_cache(maxsize=256)
def _first(columns: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    known = _lower(columns)
    return next((known[name] for name in names if name in known), None)


def _missing(values: Mapping[str, Any], name: str) -> bool:
    try:
        value_of(Row(values, ""), name)
    except AnnotationError:
        return True
    return False
