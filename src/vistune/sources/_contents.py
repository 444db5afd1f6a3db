"""What a path holds, read once for all sources: its files, and the beginnings of those whose format is in question."""

from __future__ import annotations

import io
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from vistune.errors import AnnotationError
from vistune.formats import IMAGE_ENDINGS, Location
from vistune.formats._json_stream import JsonStream
from vistune.reading import open_file

T = TypeVar("T")
_DEPTH = 8
"""Folders within folders that are looked into."""
_MOST_FILES = 300_000
_RUN = "provenance.jsonl"
_HEAD = 2**20
_TEXT_HEAD = 2**16
_SHOWN = 6
_SOME = 60


@dataclass(frozen=True, slots=True)
class JsonHead:
    """The first megabyte of a JSON file: an object's members, or a list's first element as `first`.

    Of a member that is a list there is the first element, or None if it is empty or too long.
    """

    kind: Literal["object", "list", ""]
    members: dict[str, Any] = field(default_factory=dict)
    first: Any = None

    def has(self, member: str, *keys: str) -> bool:
        """Whether the member, or the first element of it, is an object with these keys."""
        value = self.members.get(member)
        return isinstance(value, dict) and value.keys() >= set(keys)


@dataclass(frozen=True, slots=True)
class XmlHead:
    """The root's name and attributes, and the names of the elements in the beginning of an XML file."""

    root: str = ""
    attributes: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


class Contents:
    """A file, or a folder with the files in it and in its sub-folders; hidden ones are skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[tuple[Path, Callable[[Path], Any]], Any] = {}

    @cached_property
    def _by_ending(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        if self.path.is_file():
            return {self.path.suffix.lower(): [self.path]}
        for file in _walk(self.path) if self.path.is_dir() else ():
            found.setdefault(Path(file).suffix.lower(), []).append(Path(file))
        return found

    def files(self, *endings: str) -> list[Path]:
        """The files with one of these endings (in lower case), the upper folders first, by name."""
        return [file for ending in endings for file in self._by_ending.get(ending, ())]

    def some(self, *endings: str) -> list[Path]:
        """The first of such files: enough to find those that hold a whole data set, or to know a format by."""
        return self.files(*endings)[:_SOME]

    @property
    def images(self) -> list[Path]:
        return self.files(*IMAGE_ENDINGS)

    def memo(self, file: Path, look: Callable[[Path], T]) -> T:
        """What `look` says of a file, which is read once."""
        key = file, look
        if key not in self._known:
            self._known[key] = look(file)
        value: T = self._known[key]
        return value

    def json(self, file: Path) -> JsonHead:
        """The beginning of a JSON file, as far as it is sound."""
        return self.memo(file, _json_head)

    def xml(self, file: Path) -> XmlHead:
        """The beginning of an XML file; an empty root for another file."""
        return self.memo(file, _xml_head)

    def lines(self, file: Path) -> list[str]:
        """The first lines of a text in UTF-8; none of another file."""
        return self.memo(file, _lines)

    def describe(self) -> str:
        """The contents in a line, for an error message: how many files of which ending, and how one of them begins."""
        if self.path.is_file():
            return self._begins(self.path)
        counts = Counter({ending: len(files) for ending, files in self._by_ending.items()})
        kinds = [f"{count:,} {ending or 'without an ending'}" for ending, count in counts.most_common(_SHOWN)]
        others = [file for ending in (".json", ".xml", ".csv", ".tsv", ".jsonl", ".txt") for file in self.files(ending)]
        text = f"it holds {', '.join(kinds)}" if kinds else "it is empty"
        return f"{text}; {others[0].relative_to(self.path)} {self._begins(others[0])}" if others else text

    def _begins(self, file: Path) -> str:
        ending = file.suffix.lower()
        if ending == ".json" and (head := self.json(file)).kind:
            keys = head.members if head.kind == "object" else head.first if isinstance(head.first, dict) else ()
            named = f" with the keys {', '.join(list(keys)[:_SHOWN])}" if keys else ""
            return f"is a JSON {'object' if head.kind == 'object' else 'list of objects'}{named}"
        if ending == ".xml" and (root := self.xml(file).root):
            return f"is XML with the root <{root}>"
        lines = self.lines(file)
        return f"begins with '{lines[0][:80]}'" if lines else "is no text"


def _walk(folder: Path) -> list[str]:
    """The files of a folder, upper folders first, each folder's by name."""
    found: list[str] = []
    level, known = [str(folder)], set[str]()  # known: real paths, as links may lead in a circle
    for _ in range(_DEPTH):
        below: list[str] = []
        for place in level:
            if (real := os.path.realpath(place)) in known:
                continue
            known.add(real)
            try:
                with os.scandir(place) as entries:
                    seen = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
                    if place != str(folder) and any(entry.name == _RUN for entry in seen):
                        continue  # what `generate` wrote is no annotation
                    below += [entry.path for entry in seen if entry.is_dir()]
                    found += [entry.path for entry in seen if not entry.is_dir()]
            except OSError:
                continue
            if len(found) > _MOST_FILES:
                return found
        level = below
    return found


def _head(file: Path, most: int) -> bytes:
    """The beginning of a file. Raises AnnotationError."""
    with open_file(file, AnnotationError) as opened:
        return opened.read(most)


def _lines(file: Path) -> list[str]:
    try:
        head = _head(file, _TEXT_HEAD)
        text = head.decode("utf-8-sig", errors="ignore" if len(head) == _TEXT_HEAD else "strict")
    except (AnnotationError, UnicodeDecodeError):
        return []
    lines = text.splitlines()
    return lines[:-1] if len(head) == _TEXT_HEAD and len(lines) > 1 else lines


def _json_head(file: Path) -> JsonHead:
    members: dict[str, Any] = {}
    kind: Literal["object", "list", ""] = ""
    try:
        stream = JsonStream(io.BufferedReader(io.BytesIO(_head(file, _HEAD))), Location(str(file), AnnotationError))
        if stream.next() == "[":
            kind = "list"
            return JsonHead(kind, first=next((value for value, _, _ in stream.elements()), None))
        if stream.next() == "{":
            kind = "object"
            for key in stream.members():
                members[key] = None
                if stream.next() != "[":
                    members[key] = stream.value()
                else:
                    for value, _, _ in stream.elements():
                        members[key] = value if members[key] is None else members[key]
    except AnnotationError:  # the head ends within a value, or it is no JSON
        pass
    return JsonHead(kind, members)


def _xml_head(file: Path) -> XmlHead:
    parser: ET.XMLPullParser[Any] = ET.XMLPullParser(["start"])
    elements: list[ET.Element] = []
    try:
        parser.feed(_head(file, _TEXT_HEAD))
        events: Iterable[tuple[Any, ...]] = parser.read_events()
        elements += [element for _, element in events]
    except (ET.ParseError, AnnotationError, LookupError, ValueError):
        pass
    if not elements:
        return XmlHead()
    return XmlHead(elements[0].tag, frozenset(elements[0].keys()), frozenset(element.tag for element in elements))
