"""A JSON list of objects (`.json`), LLaVA's format, read piece by piece whatever its size."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.formats import Format, Location, OnError, Place, Row, formats, json_problem, parse_json, read_slice
from vistune.formats.json_lines import holds_lines

_CHUNK = 2**20
_LONGEST = 2**26
"""Characters of the longest element; one that does not end within them is broken."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


@formats.register("json_list")
class JsonList(Format):
    """The elements of a list, counted from 0."""

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith(".json") and not holds_lines(Path(path))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        """Every element once. Any mistake in the JSON ends the reading: where the next one begins is not known."""
        with self._location.open(self._path) as file:
            for number, (value, offset, length) in enumerate(_Elements(file, self._location)):
                yield Row(value, self._where(number), (number, offset, length))

    def read(self, place: Place) -> Row:
        where = self._where(place[0])
        return Row(parse_json(read_slice(self._path, place), where, self._location.error), where, place)

    def _where(self, number: int) -> str:
        return f"{self._path}: record {number}"


class _Elements:
    """The elements of the list in `file`, each with its offset and length in bytes."""

    def __init__(self, file: BufferedReader, location: Location) -> None:
        self._file, self._location = file, location
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0  # the characters read so far, and how many of them are consumed
        self._offset = 0  # in bytes, of the consumed ones
        self._count = 0
        self._end = False

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        if self._file.peek(3)[:3] == codecs.BOM_UTF8:
            self._file.read(3)
            self._offset = 3
        if self._next() != "[":
            fix = "[{…}, {…}]; a file with one record a line ends in .jsonl"
            raise self._location.error("not a list of records", where=self._location.path, fix=fix)
        self._skip(1)
        if self._next() == "]":
            return
        while True:
            self._next()
            value, length = self._value()
            offset, size = self._offset, self._skip(length)
            self._count += 1
            yield value, offset, size
            after = self._next()
            if after not in (",", "]"):
                raise self._broken("expecting ',' or ']'") if after else self._cut_off()
            self._skip(1)
            if after == "]":
                break
        if extra := self._next():
            raise self._broken(f"{extra!r} after the list's end")

    def _next(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            self._skip(_SPACE.match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _value(self) -> tuple[Any, int]:
        """The element that begins here and its length in characters."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                length, complete = end - self._at, end < len(self._text)  # a number may go on in the next chunk
                if complete or not self._more():
                    return value, length
            except json.JSONDecodeError as error:
                ahead, left = error.pos - self._at, len(self._text) - error.pos
                if len(self._text) - self._at <= _LONGEST and self._more():  # it may only be incomplete
                    continue
                cut = self._end and (not left or error.msg.startswith("Unterminated string"))
                raise (self._cut_off() if cut else self._broken(error.msg, ahead)) from None
            except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
                raise self._broken(json_problem(error), fix="a record is an object, {…}") from None

    def _more(self) -> bool:
        """Read on; false at the end of the file."""
        if self._end:
            return False
        waiting = len(self._text) - self._at
        data = self._file.read(max(_CHUNK, waiting))  # doubling: a long element is parsed few times
        self._end = not data
        try:
            self._text = self._text[self._at :] + self._decode.decode(data, final=self._end)
        except UnicodeDecodeError as error:
            what = f"not valid JSON: not UTF-8 ({error.reason})"
            raise self._location.error(what, where=self._where(), fix="save it as UTF-8") from None
        self._at = 0
        return not self._end

    def _skip(self, characters: int) -> int:
        """Consume characters; returns their length in bytes."""
        text = self._text[self._at : self._at + characters]
        size = len(text) if text.isascii() else len(text.encode())
        self._at += characters
        self._offset += size
        return size

    def _where(self) -> str:
        return f"{self._location.path}: record {self._count}"

    def _broken(self, what: str, ahead: int = 0, fix: str = "") -> VistuneError:
        """The error `ahead` characters from here."""
        offset = self._offset + len(self._text[self._at : self._at + ahead].encode())
        return self._location.error(f"not valid JSON: {what} at byte {offset}", where=self._where(), fix=fix)

    def _cut_off(self) -> VistuneError:
        return self._broken("it is cut off", len(self._text), "the file ends there: copy it again")
