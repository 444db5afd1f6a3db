"""Rows of annotation files, and which of their columns holds what: by the usual names, or as the user says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vistune.errors import AnnotationError, did_you_mean
from vistune.formats import Location, OnError, fitting, formats
from vistune.reading import parse_json
from vistune.scene.context import one_line
from vistune.scene.english import well_formed
from vistune.sources._contents import Contents

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
FIRST_ROWS = 100
"""Rows that are read to learn whether a file has a column."""
ROW_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xlsx", ".parquet")
_FORM = '{"image": …, "captions": […]}'


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a file, and its file and place."""

    values: Mapping[str, Any]
    where: str

    def wrong(self, what: str, fix: str = "") -> AnnotationError:
        return AnnotationError(what, where=self.where, fix=fix)


def read_rows(path: Path, on_error: OnError) -> Iterator[Row]:
    """The rows of a file in any format of rows. Raises AnnotationError for another file, or a broken one."""
    names = [] if path.is_dir() else [name for name in fitting(str(path)) if name not in ("webdataset", "hub")]
    if not names:
        ending = path.suffix.lower()
        what = (
            "this is a folder, not a file with rows" if path.is_dir() else f"'{ending}' is not an ending of such files"
        )
        raise AnnotationError(what, where=str(path), fix=f"rows are read from {', '.join(ROW_ENDINGS)}")
    for row in formats.get(names[0])(Location(str(path), AnnotationError)).scan(on_error):
        if isinstance(row.values, dict):
            yield Row(row.values, row.where)
        else:
            on_error(AnnotationError("this is not an object", where=row.where, fix=_FORM))


def first_rows(file: Path) -> list[Row]:
    """The first rows of a file; none of one that is in no format of rows, or broken."""
    try:
        return list(islice(read_rows(file, lambda _: None), FIRST_ROWS))
    except AnnotationError:
        return []


def sample(contents: Contents, file: Path) -> list[Row]:
    """The first rows of a file, read once; none of parquet in a folder, which is a data set of 🤗 datasets."""
    whole = file.suffix.lower() == ".parquet" and contents.path.is_dir()
    return [] if whole else contents.memo(file, first_rows)


def find(row: Row, given: Sequence[str], names: tuple[str, ...], what: str, option: str) -> list[str]:
    """The columns of the row that the user named, or the first with a usual name. Raises AnnotationError."""
    for name in given:
        value_of(row, name)
    if given:
        return list(given)
    found = usual(row, names)
    if found is None:
        fix = f"name it with {option}; the columns are {', '.join(row.values)}"
        raise row.wrong(f"there is no column with {what} under a usual name", fix)
    return [found]


def usual(row: Row, names: tuple[str, ...]) -> str | None:
    """The row's column with the first of these usual names."""
    columns = {column.lower(): column for column in row.values}
    return next((columns[name] for name in names if name in columns), None)


def value_of(row: Row, name: str) -> Any:
    """The value of a column; `a.b` is `b` within `a`, in each element where `a` is a list. Raises AnnotationError."""
    if name in row.values:
        return row.values[name]
    value: Any = row.values
    for part in name.split("."):
        try:
            value = [one[part] for one in value] if isinstance(value, list) else value[part]
        except (KeyError, TypeError):
            known = list(value) if isinstance(value, Mapping) else row.values
            raise row.wrong(f"there is no column '{name}'", did_you_mean(part, known)) from None
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
        raise row.wrong(f"a caption is not a text: {str(value)[:60]}", "name the column of texts, e.g. sentences.raw")


def json_captions(text: str, where: str) -> tuple[str, ...]:
    """The captions in a small JSON file: a list of them, or an object with them. Raises AnnotationError."""
    value = parse_json(text, where, AnnotationError)
    row = Row(value if isinstance(value, dict) else {"captions": value}, where)
    [column] = find(row, (), CAPTIONS, "captions", "a usual name, e.g. 'caption'")
    return tuple(texts(row, row.values[column]))


def text_captions(text: str) -> tuple[str, ...]:
    """The captions in a text, one a line."""
    return tuple(filter(None, map(one_line, text.splitlines())))


def image_name(row: Row, value: Any) -> str:
    """An image's path; of an address `https://host/a/b.jpg?c` `host/a/b.jpg?c`, where `wget -x` would put the file."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        raise row.wrong(f"the image is not a path: {str(value)[:60]}", "name the column of paths with --image-column")
    name = value.strip()
    if name.startswith(("http://", "https://")):
        try:
            address = urlsplit(name)
        except ValueError as error:
            raise row.wrong(f"the image is not an address: {error}") from None
        return f"{address.netloc}{unquote(address.path)}" + (f"?{address.query}" if address.query else "")
    name = name.removeprefix("./")
    return str(PurePosixPath(name)) if "//" in name or "/./" in name else name


def record_id(row: Row, image: str) -> str:
    """The row's own id, or the image's path without its ending."""
    return given_id(row) or id_of(image, row.where)


def id_of(image: str, where: str) -> str:
    """An image's path without its ending as the id of its record; an address with a query as a whole."""
    path = image.replace("\\", "/")
    try:
        return well_formed(path if "?" in path else str(PurePosixPath(path).with_suffix("")))
    except ValueError:  # it has no name
        raise AnnotationError(f"the image is not a file's path: '{image}'", where=where) from None


def given_id(row: Row) -> str:
    """The id in the row's first column with a usual name; "" without one."""
    columns = {column.lower(): row.values[column] for column in row.values}
    for name in IDS:
        value = columns.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and (text := str(value).strip()):
            return well_formed(text)
    return ""
