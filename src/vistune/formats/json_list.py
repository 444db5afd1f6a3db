"""A JSON list of objects (`.json`), LLaVA's format, read piece by piece whatever its size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vistune.formats import Format, OnError, Place, Row, formats, read_slice
from vistune.formats._json_stream import JsonStream
from vistune.formats.json_lines import holds_lines
from vistune.reading import parse_json


@formats.register("json_list")
class JsonList(Format):
    """The elements of a list, counted from 0."""

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith(".json") and not holds_lines(Path(path))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        """Every element once. Any mistake in the JSON ends the reading: where the next one begins is not known."""
        with self._location.open(self._path) as file:
            stream = JsonStream(file, self._location)
            if stream.next() != "[":
                fix = "[{…}, {…}]; a file with one record a line ends in .jsonl"
                raise self._location.error("not a list of records", where=self._location.path, fix=fix)
            for number, (value, offset, length) in enumerate(stream.elements()):
                yield Row(value, self._where(number), (number, offset, length))
            stream.end()

    def read(self, place: Place) -> Row:
        where = self._where(place[0])
        return Row(parse_json(read_slice(self._path, place), where, self._location.error), where, place)

    def _where(self, number: int) -> str:
        return f"{self._path}: record {number}"
