"""CSV and its relatives with a header line: `.csv`, `.tsv`, `.txt`; the delimiter is read off the header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar

from vistune.formats import Format, OnError, Row, formats
from vistune.reading import not_utf8

_DELIMITERS = "\t|;,"
_QUOTES = (
    'is a double quote missing? Within a text one is written twice ("A ""big"" dog."), and none has a space after it'
)
_LONGEST = 2**26
"""Characters of the longest field: benchmarks hold images in base64. The reader's own limit is 2**17."""
_SWALLOWED = 10
"""Lines of a quoted text that look like rows; with this many, a closing quote is missing."""


@formats.register("csv")
class Csv(Format):
    """The rows of a file; lines count from 1."""

    random_access: ClassVar[bool] = False

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith((".csv", ".tsv", ".txt"))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        csv.field_size_limit(_LONGEST)  # of the process; no reader takes it as an argument
        try:
            with self._location.open(self._path) as content:
                file = TextIOWrapper(content, "utf-8-sig", newline="")
                header = file.readline(2**20)
                delimiter = max(_DELIMITERS, key=lambda character: (header.count(character), character == ","))
                file.seek(0)
                yield from self._rows(csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True),
                                      delimiter, on_error)  # fmt: skip
        except UnicodeDecodeError as error:
            raise not_utf8(error, f"{self._path}{_undecodable(self._path)}", self._location.error) from None

    def _rows(self, lines: Any, delimiter: str, on_error: OnError) -> Iterator[Row]:
        names: list[str] = []
        while True:
            first = lines.line_num + 1  # of the row
            try:
                for line in lines:
                    where = f"{self._path}: line {first}"
                    if not names:
                        names = self._checked([name.strip() for name in line], where)
                    elif lines.line_num > first and _swallowed(line, delimiter, len(names)):
                        raise csv.Error("a quoted text holds rows")
                    elif len(line) == len(names):
                        yield Row(dict(zip(names, line, strict=True)), where, (first, 0, 0))
                    elif line:
                        fix = "put texts with the delimiter in them between double quotes"
                        what = f"it has {len(line)} fields, and the first line has {len(names)}: {', '.join(names)}"
                        on_error(self._location.error(_over(what, first, lines), where=where, fix=fix))
                    first = lines.line_num + 1
                return
            except csv.Error as error:
                what = _over(f"not valid CSV: {error}", first, lines)
                wrong = self._location.error(what, where=f"{self._path}: line {first}", fix=_QUOTES)
                if lines.line_num > first or not names:  # where the next row begins is not known
                    raise wrong from None
                on_error(wrong)

    def _checked(self, names: list[str], where: str) -> list[str]:
        if twice := [name for name in names if name and names.count(name) > 1]:
            fix = "give each column its own name"
            raise self._location.error(f"two columns have the name '{twice[0]}'", where=where, fix=fix)
        return names


def _undecodable(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f": line {number}"
    return ""


def _swallowed(fields: list[str], delimiter: str, columns: int) -> bool:
    """Whether a field over many lines is rows that a missing closing quote took in."""
    for field in fields:
        within = field.splitlines()[1:-1]
        if len(within) >= _SWALLOWED and all(line.count(delimiter) == columns - 1 for line in within):
            return True
    return False


def _over(what: str, first: int, lines: Any) -> str:
    return what if lines.line_num == first else f"up to line {lines.line_num}, {what}"
