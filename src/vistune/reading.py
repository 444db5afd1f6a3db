"""Files of others: regular files only, bounded in size and nesting; a mistake is an error with the file and its place.

Each function raises the class of errors that it is given.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from vistune.errors import VistuneError

_MEBIBYTE = 2**20
MOST_BYTES = 512 * _MEBIBYTE
"""Size of the largest file that is read at once."""
_MOST_YAML = _MEBIBYTE
_LONGEST_LINE = 256 * _MEBIBYTE
_MOST_NESTED = 100
_NESTED = "too many nested brackets"
_MOST_NODES = 100_000
"""Values of a YAML file, those behind its aliases counted as often as they are used."""
WRONG_TYPE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What Python raises where a value of another type than the format says, or one that is too large, is used first."""
NOT_IN_FORMAT = "a value is of another type than the format says"
_FIXES = {
    errno.EACCES: "give yourself the right to read it (chmod, chown)",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "its links lead in a circle: replace them by the file",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
    errno.ENOENT: "check the path",
}


@contextmanager
def open_file(path: Path, error: type[VistuneError]) -> Iterator[BufferedReader]:
    """A regular file in binary. What the system does not open, or not read meanwhile, is an error.

    So is a pipe or a device: none is waited for.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:  # a path's `open` has no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                fix = "save its content as a file, and name that"
                raise error("this is a pipe or a device, not a file", where=str(path), fix=fix)
            yield file
    except OSError as broken:
        raise unreadable(path, broken, error) from None
    except ValueError as broken:
        if "null byte" not in str(broken):
            raise
        raise error("this is no file's name", where=str(path), fix="check the path") from None


def read_bytes(path: Path, error: type[VistuneError], *, most: int = MOST_BYTES) -> bytes:
    """The content of a file of at most `most` bytes."""
    with open_file(path, error) as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if data is None or len(data) > most:
        what = f"it is larger than {most // _MEBIBYTE:,} MiB"
        raise error(what, where=str(path), fix="check that it is the file you mean")
    return data


def read_text(path: Path, error: type[VistuneError], *, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8; a byte-order mark is skipped."""
    try:
        return read_bytes(path, error, most=most).decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        raise not_utf8(broken, str(path), error) from None


def read_json(path: Path, error: type[VistuneError]) -> Any:
    """The value of a JSON file."""
    return parse_json(read_bytes(path, error), str(path), error)


def read_yaml(path: Path, error: type[VistuneError]) -> Any:
    """The value of a YAML file, which may be a pipe, such as the shell's <(…)."""
    try:
        data = _piped(path) if path.is_fifo() else read_bytes(path, error, most=_MOST_YAML)
    except OSError as broken:
        raise unreadable(path, broken, error) from None
    return parse_yaml(data, str(path), error)


def read_xml(path: Path, error: type[VistuneError]) -> ET.Element:
    """The root of an XML file. Entities that would grow beyond bounds are refused by expat."""
    try:
        return ET.fromstring(read_bytes(path, error))
    except (ET.ParseError, LookupError, ValueError) as broken:  # LookupError: an unknown encoding
        raise not_xml(broken, path, error) from None


def not_xml(broken: Exception, path: Path, error: type[VistuneError]) -> VistuneError:
    """The error for a file that is no XML, or cut off."""
    return error(f"not valid XML: {broken}", where=str(path), fix="correct it, or copy the file again")


def bounded_lines(file: BufferedReader, where: str, error: type[VistuneError]) -> Iterator[bytes]:
    """The lines of an open file. One that does not end within `_LONGEST_LINE` bytes is an error."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            what, fix = f"it is longer than {_LONGEST_LINE // _MEBIBYTE} MiB", "check that this is a file of lines"
            raise error(what, where=f"{where}: line {number}", fix=fix)
        yield line


def parse_json(data: str | bytes, where: str, error: type[VistuneError]) -> Any:
    """The value of a JSON text; a byte-order mark is skipped."""
    try:
        return json.loads(data.removeprefix(b"\xef\xbb\xbf") if isinstance(data, bytes) else data)
    except (ValueError, RecursionError) as broken:  # JSON's and Unicode's errors are ValueErrors
        fix = "save it as UTF-8" if isinstance(broken, UnicodeDecodeError) else "correct it, or copy the file again"
        raise error(f"not valid JSON: {json_problem(broken)}", where=where, fix=fix) from None


def parse_yaml(data: str | bytes, where: str, error: type[VistuneError]) -> Any:
    """The value of a YAML text. Values behind aliases count as often as they are used."""
    try:
        return yaml.load(data, _BoundedLoader)
    except (yaml.YAMLError, *WRONG_TYPE) as broken:  # also of dates and numbers that do not exist
        what = " ".join(json_problem(broken).split())
        raise error(f"not valid YAML: {what}", where=where, fix="correct it at that place") from None


@contextmanager
def in_format(where: str, error: type[VistuneError], fix: str = "correct that value") -> Iterator[None]:
    """Raises `error` in place of what Python raises where a value is of another type than the format says."""
    try:
        yield
    except WRONG_TYPE as broken:
        missing = isinstance(broken, KeyError)
        what = f"the key {broken} is missing" if missing else f"{NOT_IN_FORMAT}: {str(broken)[:200]}"
        raise error(what, where=where, fix=fix) from None


def json_problem(broken: Exception) -> str:
    """What is wrong with a JSON or YAML text, by its decoder's error."""
    if isinstance(broken, RecursionError):
        return _NESTED
    return "a number has too many digits" if "integer string conversion" in str(broken) else str(broken)


def not_utf8(broken: UnicodeDecodeError, where: str, error: type[VistuneError]) -> VistuneError:
    """The error for a text in another encoding, like Latin-1 or Excel's UTF-16."""
    return error(f"not text in UTF-8 ({broken.reason})", where=where, fix="save it as UTF-8")


def unreadable(path: Path, broken: OSError, error: type[VistuneError]) -> VistuneError:
    """The error for a file that the system does not open or read."""
    what = "there is no such file" if broken.errno == errno.ENOENT else f"cannot be read: {broken.strerror or broken}"
    fix = _FIXES.get(broken.errno or 0, "check the path, its rights and the disk")
    return error(what, where=str(path), fix=fix)


def _without_waiting(path: str, flags: int) -> int:
    """The opener of a file: a named pipe without a writer would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _piped(path: Path) -> bytes:
    """What comes through a pipe; nothing if there is no writer."""
    with open(path, "rb", opener=_without_waiting) as file:
        os.set_blocking(file.fileno(), True)
        return file.read(_MOST_YAML)


class _BoundedLoader(yaml.SafeLoader):
    """YAML without types of Python's, of at most `_MOST_NESTED` levels and, with its aliases, `_MOST_NODES` values."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._sizes: dict[int, int] = {}  # values below each node, by its identity

    def fetch_flow_collection_start(self, kind: Any) -> None:
        if self.flow_level >= _MOST_NESTED:  # PyYAML's time grows with their square
            raise yaml.YAMLError(_NESTED)
        super().fetch_flow_collection_start(kind)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) >= _MOST_NESTED:
            raise yaml.YAMLError(_NESTED)
        return bool(super().add_indent(column))

    def compose_node(self, parent: Any, index: int) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if not alias:
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            below = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
            self._sizes[id(node)] = 1 + sum(self._sizes[id(one)] for one in below)
        if self._sizes.get(id(node), _MOST_NODES) >= _MOST_NODES:  # a node without a size contains this alias
            raise yaml.YAMLError("it holds too many values, or aliases of what contains them")
        return node
