"""JSON lines: one record a line (`.jsonl`, `.ndjson`)."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.data.readers import read_error, readers
from vistune.data.slices import Slices
from vistune.errors import DataError
from vistune.recipe.training import DataRecipe


@readers.register("json_lines")
class JsonLines:
    """The records of a file with one on each line; empty lines are passed over."""

    chooses: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: DataRecipe) -> None:
        self._path = Path(data.path)
        self._slices = Slices(self._path)
        self._lines = array("q")  # (n), the number of each record's line, from 1

    @staticmethod
    def reads(path: str) -> bool:
        """By the file's ending."""
        return path.lower().endswith((".jsonl", ".ndjson"))

    def scan(self) -> Iterator[Any]:
        """Every record once."""
        offset = 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        self._lines.append(number)
                        self._slices.add(offset, len(line))
                        yield self._parse(line, number)
                    offset += len(line)
        except OSError as error:
            raise read_error(self._path, error) from None

    def __getitem__(self, number: int) -> Any:
        return self._parse(self._slices[number], self._lines[number])

    def where(self, number: int) -> str:
        """The file and the line."""
        return f"{self._path}: line {self._lines[number]}"

    def _parse(self, line: bytes, number: int) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            raise DataError(f"not valid JSON: {error}", where=f"{self._path}: line {number}") from None
