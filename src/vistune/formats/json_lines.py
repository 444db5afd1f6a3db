"""JSON lines: one object a line (`.jsonl`, `.ndjson`, and `.json` files that hold them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vistune.errors import VistuneError
from vistune.formats import Format, OnError, Place, Row, formats, read_slice
from vistune.reading import bounded_lines, parse_json


@formats.register("json_lines")
class JsonLines(Format):
    """The lines of a file; empty ones are skipped. Lines count from 1."""

    @staticmethod
    def fits(path: str) -> bool:
        ending = Path(path).suffix.lower()
        return ending in (".jsonl", ".ndjson") or (ending == ".json" and holds_lines(Path(path)))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        offset = 0
        with self._location.open(self._path) as file:
            for number, line in enumerate(bounded_lines(file, str(self._path), self._location.error), 1):
                place = number, offset, len(line)
                offset += len(line)
                if not line.strip():
                    continue
                try:
                    yield self._row(line, place)
                except VistuneError as error:
                    on_error(error)

    def read(self, place: Place) -> Row:
        return self._row(read_slice(self._path, place), place)

    def _row(self, line: bytes, place: Place) -> Row:
        where = f"{self._path}: line {place[0]}"
        return Row(parse_json(line, where, self._location.error), where, place)


def holds_lines(path: Path) -> bool:
    """Whether the first line of a file is a whole object."""
    if not path.is_file():  # also of a pipe or a device
        return False
    with path.open("rb") as file:
        first = file.readline(2**20).removeprefix(b"\xef\xbb\xbf").strip()
    return first.startswith(b"{") and first.endswith(b"}")
