"""The elements of a JSON list one after the other, whatever the file's size."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vistune.errors import VistuneError

_CHUNK = 2**20
_LONGEST = 2**26
"""No record has so many characters; what does not end within them is broken."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


class Elements:
    """The elements of the list in `file`, each with its offset and length in bytes. Raises `error` for what is broken.

    `form` is what the list should look like, for the message.
    """

    def __init__(self, file: BinaryIO, path: Path, error: type[VistuneError], form: str) -> None:
        self._file, self._path, self._error, self._form = file, path, error, form
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0  # characters that are read, and how many of them are done with
        self._offset = 0  # in bytes, of what is done with
        self._count = 0
        self._end = False

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        if self._file.peek(3)[:3] == codecs.BOM_UTF8:  # type: ignore[attr-defined]
            self._file.read(3)
            self._offset = 3
        if self._next() != "[":
            fix = f"[{self._form}, …]; a file with one record a line ends in .jsonl"
            raise self._error("not a list of records", where=str(self._path), fix=fix)
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
        """The next character that is no white space; nothing at the end."""
        while True:
            self._skip(_SPACE.match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _value(self) -> tuple[Any, int]:
        """The element that begins here and how many characters it takes."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                length, complete = end - self._at, end < len(self._text)  # a number may go on in the next chunk
                if complete or not self._more():
                    return value, length
            except RecursionError:
                raise self._broken("too many brackets within each other", fix=f"a record is {self._form}") from None
            except json.JSONDecodeError as error:
                ahead, left = error.pos - self._at, len(self._text) - error.pos
                # what is merely cut off fails at the text's end, or in a string that is open there
                open_ = error.msg.startswith("Unterminated string")
                if (left < 16 or open_) and len(self._text) - self._at <= _LONGEST and self._more():
                    continue
                raise (
                    self._cut_off() if self._end and (not left or open_) else self._broken(error.msg, ahead)
                ) from None

    def _more(self) -> bool:
        """Read on; false at the end of the file."""
        if self._end:
            return False
        waiting = len(self._text) - self._at
        data = self._file.read(max(_CHUNK, waiting))  # doubling: a long record is not parsed too often
        self._end = not data
        try:
            self._text = self._text[self._at :] + self._decode.decode(data, final=self._end)
        except UnicodeDecodeError as error:
            what = f"not valid JSON: not UTF-8 ({error.reason})"
            raise self._error(what, where=self._where(), fix="save it as UTF-8") from None
        self._at = 0
        return not self._end

    def _skip(self, characters: int) -> int:
        """Go on by so many characters; returns how many bytes they are."""
        text = self._text[self._at : self._at + characters]
        size = len(text) if text.isascii() else len(text.encode())
        self._at += characters
        self._offset += size
        return size

    def _where(self) -> str:
        return f"{self._path}: record {self._count}"

    def _broken(self, what: str, ahead: int = 0, fix: str = "") -> VistuneError:
        """The error `ahead` characters from here."""
        offset = self._offset + len(self._text[self._at : self._at + ahead].encode())
        return self._error(f"not valid JSON: {what} at byte {offset}", where=self._where(), fix=fix)

    def _cut_off(self) -> VistuneError:
        return self._broken("it is cut off", len(self._text), "the file ends there: copy it again")
