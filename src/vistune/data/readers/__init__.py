"""Files of conversations in the formats that people have, one format a file, with any number of records.

A reader goes through its file once and then has any record by its number, while its memory stays at a few bytes a
record. What the records say is read by `vistune.data.conversation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vistune.errors import DataError
from vistune.recipe.training import DataRecipe
from vistune.registry import Registry


class Reader(Protocol):
    """The records of a file, a folder or a data set of the hub, in order.

    What is not there or is broken is a DataError with the file and the record.
    """

    chooses: ClassVar[tuple[str, ...]]
    """Which of a recipe's `split` and `subset` it knows."""

    def __init__(self, data: DataRecipe) -> None: ...

    @staticmethod
    def reads(path: str) -> bool:
        """Whether the format is the one of `path`, by its name or what the folder holds."""

    def scan(self) -> Iterator[Any]:
        """Every record once, from the first to the last; where an image's bytes are, `bytes` may be just true."""

    def __getitem__(self, number: int) -> Any:
        """The record of that number, with its images' bytes; after a whole scan only."""

    def where(self, number: int) -> str:
        """What an error message calls the record."""


readers: Registry[type[Reader]] = Registry("data format", "vistune.data.readers")


def open_reader(data: DataRecipe) -> Reader:
    """The reader of the format of `data`. Raises DataError if there is nothing, or no format that fits."""
    found = [name for name in readers.names() if readers.get(name).reads(data.path)]
    if len(found) == 1:
        reader = readers.get(found[0])
        for key in ("split", "subset"):
            if getattr(data, key) is not None and key not in reader.chooses:
                raise DataError(f"data of the format {found[0]} has no '{key}'", where=data.path, fix="remove the key")
        return reader(data)
    if found:
        raise DataError(f"it holds data of several formats ({', '.join(found)})", where=data.path)
    if not Path(data.path).exists():
        fix = "check the stage's `data`; a data set of the hub is written hub:owner/name"
        raise DataError("there is no such file or folder", where=data.path, fix=fix)
    fix = f"data is read from {', '.join(readers.names())}, told apart by the file's ending or the folder's content"
    raise DataError("not a format of data that is known here", where=data.path, fix=fix)


def read_error(path: Path, error: OSError) -> DataError:
    """The user's error for a file that the system does not give."""
    if isinstance(error, FileNotFoundError):
        return DataError("there is no such file", where=str(path), fix="check the stage's `data`")
    return DataError(f"cannot be read: {error.strerror}", where=str(path))
