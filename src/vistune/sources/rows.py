"""Rows of JSON lists, JSON lines, CSV, TSV and parquet, one at a time, each with the name it has in messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError, MissingPackageError
from vistune.formats.json_stream import Elements
from vistune.sources import OnError
from vistune.sources.stream import not_json, not_utf8

_DELIMITERS = "\t|;,"
_QUOTES = (
    'is a double quote missing? Within a text one is written twice ("A ""big"" dog."), and none has a space after it'
)
_ROWS = 10
"""So many lines of a quoted text, each with the delimiters of a row, are rows."""
_BATCH = 1_000
_FORM = '{"image": …, "captions": […]}'
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")
"""The endings of files with rows; `.txt` is one with a header line, as `.csv`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a file, and the file and place that it is at."""

    values: Mapping[str, Any]
    where: str

    def wrong(self, what: str, fix: str = "") -> AnnotationError:
        """The error about this record."""
        return AnnotationError(what, where=self.where, fix=fix)


def read_rows(path: Path, on_error: OnError) -> Iterator[Row]:
    """The rows of a file, by its ending. Raises AnnotationError if it is no such file, or broken."""
    ending = path.suffix.lower()
    if path.is_dir() or ending not in ENDINGS:
        what = "this is a folder, not a file with rows" if path.is_dir() else f"'{ending}' is no ending of such a file"
        raise AnnotationError(what, where=str(path), fix=f"rows are read from {', '.join(ENDINGS)}")
    try:
        if ending == ".parquet":
            yield from _parquet(path)
        elif ending in (".csv", ".tsv", ".txt"):
            yield from _csv(path, on_error)
        elif ending == ".json" and not _one_a_line(path):
            yield from _json_list(path, on_error)
        else:
            yield from _json_lines(path, on_error)
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise not_utf8(error, f"{path}{_undecodable(path)}") from None


def _one_a_line(path: Path) -> bool:
    """Whether a `.json` holds an object a line, as many files do that should end in `.jsonl`."""
    with path.open("rb") as file:
        first = file.readline(2**20).lstrip(b"\xef\xbb\xbf").strip()
    return first.startswith(b"{") and first.endswith(b"}")


def _json_list(path: Path, on_error: OnError) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, (value, _, _) in enumerate(Elements(file, path, AnnotationError, _FORM)):
            yield from _checked(value, f"{path}: record {number}", on_error)


def _json_lines(path: Path, on_error: OnError) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}: line {number}"
            if not line.strip():
                continue
            try:
                value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, RecursionError) as error:
                on_error(not_json(error, where))
                continue
            yield from _checked(value, where, on_error)


def _checked(value: Any, where: str, on_error: OnError) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(value, where)
    else:
        on_error(AnnotationError("this is not an object", where=where, fix=_FORM))


def _csv(path: Path, on_error: OnError) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(_DELIMITERS, key=lambda character: (header.count(character), character == ","))
        file.seek(0)
        lines = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        names: list[str] = []
        while True:
            first = lines.line_num + 1  # of the row
            try:
                for line in lines:
                    if not names:
                        names = [name.strip() for name in line]
                    elif lines.line_num > first and _swallowed(line, delimiter, len(names)):
                        raise csv.Error("a quoted text holds rows")
                    elif len(line) == len(names):
                        yield Row(dict(zip(names, line, strict=True)), f"{path}: line {first}")
                    elif line:
                        fix = "put texts with the delimiter in them between double quotes"
                        what = f"it has {len(line)} fields, and the first line has {len(names)}: {', '.join(names)}"
                        on_error(AnnotationError(_over(what, first, lines), where=f"{path}: line {first}", fix=fix))
                    first = lines.line_num + 1
                return
            except csv.Error as error:
                what, fix = _over(f"not valid CSV: {error}", first, lines), _QUOTES
                wrong = AnnotationError(what, where=f"{path}: line {first}", fix=fix)
                if lines.line_num > first or not names:  # where the next row begins is not known
                    raise wrong from None
                on_error(wrong)


def _undecodable(path: Path) -> str:
    """The first line that is not in UTF-8, for a message."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f": line {number}"
    return ""


def _swallowed(fields: list[str], delimiter: str, columns: int) -> bool:
    """Whether a field over many lines is rows, which a quote that is not closed took in."""
    for field in fields:
        within = field.splitlines()[1:-1]
        if len(within) >= _ROWS and all(line.count(delimiter) == columns - 1 for line in within):
            return True
    return False


def _over(what: str, first: int, lines: Any) -> str:
    """What is wrong, with the last line of a row over several."""
    return what if lines.line_num == first else f"up to line {lines.line_num}, {what}"


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError:
        what, fix = "reading parquet needs the package pyarrow", "pip install 'vistune[data]'"
        raise MissingPackageError(what, where=str(path), fix=fix) from None
    try:
        with parquet.ParquetFile(path) as file:
            leaves = [file.schema.column(number) for number in range(len(file.schema))]
            texts = [leaf.path for leaf in leaves if not _binary(leaf)]
            start = 0
            for batch in file.iter_batches(_BATCH, columns=texts):
                yield from (Row(row, f"{path}: row {start + n}") for n, row in enumerate(batch.to_pylist()))
                start += len(batch)
    except ArrowException as error:
        raise AnnotationError(f"not a whole parquet file: {error}", where=str(path), fix="copy it again") from None


def _binary(leaf: Any) -> bool:
    """Whether a column holds bytes that are no text, like an image's: those are not read."""
    return str(leaf.physical_type) == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
