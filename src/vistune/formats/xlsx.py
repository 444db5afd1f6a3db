"""Excel's `.xlsx`: the first sheet of a workbook, with a header line. It is a zip file of XML; no package is needed."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, ClassVar
from xml.etree import ElementTree as ET

from vistune.formats import Format, OnError, Row, formats
from vistune.reading import MOST_BYTES, WRONG_TYPE

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHEET, _STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"


@formats.register("xlsx")
class Xlsx(Format):
    """The rows of the first sheet; lines count from 1. Each value is a text, that of an empty cell is empty."""

    random_access: ClassVar[bool] = False

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith(".xlsx")

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        try:
            with self._location.open(self._path) as file, zipfile.ZipFile(file) as book:
                _check_sizes(book)
                strings = list(_strings(book)) if _STRINGS in book.namelist() else []
                with book.open(_SHEET) as sheet:
                    yield from self._rows(_lines(sheet, strings))
        except (zipfile.BadZipFile, zlib.error, EOFError, ET.ParseError, NotImplementedError, *WRONG_TYPE) as error:
            what = f"not a whole Excel workbook: {error}"
            raise self._location.error(what, where=str(self._path), fix="save it again, as .xlsx or .csv") from None

    def _rows(self, lines: Iterator[tuple[int, dict[int, str]]]) -> Iterator[Row]:
        names: dict[int, str] = {}
        for number, cells in lines:
            if not names:
                names = {place: name.strip() for place, name in cells.items() if name.strip()}
            elif any(cells.values()):
                values = {name: cells.get(place, "") for place, name in names.items()}
                yield Row(values, f"{self._path}: line {number}", (number, 0, 0))


def _check_sizes(book: zipfile.ZipFile) -> None:
    """Raise BadZipFile for parts that would take gigabytes, however small they are while compressed."""
    for name in {_SHEET, _STRINGS} & {*book.namelist()}:
        if (size := book.getinfo(name).file_size) > MOST_BYTES:
            raise zipfile.BadZipFile(f"{name} has {size:,} bytes")


def _strings(book: zipfile.ZipFile) -> Iterator[str]:
    """The texts that cells refer to by number."""
    with book.open(_STRINGS) as file:
        for _, element in ET.iterparse(file):
            if element.tag == f"{_MAIN}si":
                yield _text(element)
                element.clear()


def _lines(sheet: IO[bytes], strings: list[str]) -> Iterator[tuple[int, dict[int, str]]]:
    """The number of each line and its cells by column, from 0."""
    number = 0
    for _, element in ET.iterparse(sheet):
        if element.tag == f"{_MAIN}row":
            number = int(element.get("r", number + 1))
            cells = {_column(cell, place): _value(cell, strings) for place, cell in enumerate(element)}
            yield number, cells
            element.clear()


def _column(cell: ET.Element, place: int) -> int:
    """Of `C7` 2; a writer may leave the reference out."""
    letters = re.match("[A-Z]+", cell.get("r", ""))
    column = 0
    for letter in letters[0] if letters else "":
        column = 26 * column + ord(letter) - ord("A") + 1
    return column - 1 if letters else place


def _value(cell: ET.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_MAIN}v") or ""
    return strings[int(value)] if cell.get("t") == "s" and value else value


def _text(element: ET.Element) -> str:
    """The text of an element, whose parts may have fonts of their own; without the readings of Japanese."""
    inner = element.find(f"{_MAIN}is")
    whole = element if inner is None else inner
    parts = [*whole.findall(f"{_MAIN}t"), *whole.findall(f"{_MAIN}r/{_MAIN}t")]
    return "".join(part.text or "" for part in parts)
