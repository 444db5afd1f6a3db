"""A JSON list of records (`.json`), LLaVA's format, read piece by piece whatever its size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.data.readers import read_error, readers
from vistune.data.slices import Slices
from vistune.errors import DataError
from vistune.formats.json_stream import Elements
from vistune.recipe.training import DataRecipe

_FORM = '{"id": …, "image": …, "conversations": […]}'


@readers.register("json_list")
class JsonList:
    """The records of a JSON list. The scan holds one chunk of text and notes where in the file each record lies."""

    chooses: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: DataRecipe) -> None:
        self._path = Path(data.path)
        self._slices = Slices(self._path)

    @staticmethod
    def reads(path: str) -> bool:
        """By the file's ending."""
        return path.lower().endswith(".json")

    def scan(self) -> Iterator[Any]:
        """Every record once."""
        try:
            with self._path.open("rb") as file:
                for value, offset, length in Elements(file, self._path, DataError, _FORM):
                    self._slices.add(offset, length)
                    yield value
        except OSError as error:
            raise read_error(self._path, error) from None

    def __getitem__(self, number: int) -> Any:
        try:
            return json.loads(self._slices[number])
        except ValueError as error:
            what = f"not valid JSON any more ({error}): the file was changed while it was used"
            raise DataError(what, where=self.where(number)) from None

    def where(self, number: int) -> str:
        """The file and the record, counted from 0."""
        return f"{self._path}: record {number}"
