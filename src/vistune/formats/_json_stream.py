"""JSON of any size, read piece by piece: the elements of a list, the members of an object, one value at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Any

from vistune.errors import VistuneError
from vistune.formats import Location
from vistune.reading import json_problem

_CHUNK = 2**20
_LONGEST = 2**26
"""Characters of the longest value that is read at once; one that does not end within them is broken."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(r".*\}(?=\s*,\s*\{)", re.DOTALL)
"""Up to the last place where one object may end and the next one begin."""


class JsonStream:
    """The JSON value in `file`, from its beginning. Each method reads on from where the last one ended.

    Errors are the location's, with the record and the byte; `count` numbers the records that were read.
    """

    def __init__(self, file: BufferedReader, location: Location) -> None:
        self._file, self._location = file, location
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0  # the characters read so far, and how many of them are consumed
        self._offset = 0  # in bytes, of the consumed ones
        self._count = 0
        self._end = False
        self._nested = False  # the text read so far cannot be cut between two objects of the list
        if self._file.peek(3)[:3] == codecs.BOM_UTF8:
            self._file.read(3)
            self._offset = 3

    def next(self) -> str:
        """The next character that is not white space; "" at the end. It is not consumed."""
        while True:
            self._skip(_SPACE.match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def elements(self) -> Iterator[tuple[Any, int, int]]:
        """The elements of the list that begins here, each with its offset and length in bytes."""
        for _ in self._items("[", "]"):
            value, length = self._value()
            offset, size = self._offset, self._skip(length)
            self._count += 1
            yield value, offset, size

    def batches(self, decode: Callable[[str], list[Any]] = json.loads) -> Iterator[list[Any]]:
        """The elements of the list that begins here, many at once and so in a fraction of the time.

        `decode` gets the text of a list of whole elements; it may skip what is not needed of them.
        """
        for _ in self._items("[", "]"):
            many = [] if self._nested else self._many(decode)
            if not many:
                value, length = self._value()
                self._skip(length)
                many = [value]
            self._count += len(many)
            yield many

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here. Before the next one, read the value; else it is skipped."""
        for _ in self._items("{", "}"):
            key, length = self._value()
            if not isinstance(key, str):
                raise self._broken("expecting a key", fix="correct it, or copy the file again")
            self._skip(length)
            if self.next() != ":":
                raise self._broken("expecting ':'", fix="correct it, or copy the file again")
            self._skip(1)
            self.next()
            before = self._offset
            yield key
            if self._offset == before:
                self.skip()

    def value(self) -> Any:
        """The value that begins here, as a whole."""
        self.next()
        value, length = self._value()
        self._skip(length)
        return value

    def skip(self) -> None:
        """Go past the value that begins here, whatever its size."""
        if self.next() == "[":
            for _ in self.elements():
                pass
        elif self.next() == "{":
            for _ in self.members():
                pass
        else:
            self.value()

    def end(self) -> None:
        """Raise the location's error for anything but white space that follows."""
        if extra := self.next():
            raise self._broken(
                f"{extra!r} after the end", fix="write one list, or a record a line with the ending .jsonl"
            )

    def _items(self, opening: str, closing: str) -> Iterator[None]:
        """Stops at the beginning of each item between the brackets."""
        if self.next() != opening:
            raise self._broken(f"expecting '{opening}'", fix="correct it, or copy the file again")
        self._skip(1)
        if self.next() == closing:
            self._skip(1)
            return
        while True:
            self.next()
            yield
            after = self.next()
            if after not in (",", closing):
                raise (
                    self._broken(f"expecting ',' or '{closing}'", fix="correct it, or copy the file again")
                    if after
                    else self._cut_off()
                )
            self._skip(1)
            if after == closing:
                return

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

    def _many(self, decode: Callable[[str], list[Any]]) -> list[Any]:
        """The whole elements in what is read so far: where the text up to an object's end is a list, it is some."""
        found = _WHOLE.match(self._text, self._at)
        if not found:
            return []
        try:
            many = decode(f"[{found[0]}]")
        except (ValueError, RecursionError):  # objects within an element, or a mistake: they are read one by one
            self._nested = True
            return []
        self._skip(len(found[0]))
        return many

    def _more(self) -> bool:
        """Read on; false at the end of the file."""
        if self._end:
            return False
        self._nested = False
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
