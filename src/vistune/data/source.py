"""One data set of a stage: its conversations by number, all of them checked before the first is used."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vistune.data.conversation import COLUMNS, embedded_image, file_name, image_values, local_path, to_conversation
from vistune.data.images import ImageFile
from vistune.data.layouts import layout
from vistune.errors import DataError, did_you_mean
from vistune.formats import Format, Location, Place, Row, fitting, formats, stop
from vistune.image_files import ImagesFolder, is_file
from vistune.reading import in_format
from vistune.recipe.training import DataRecipe
from vistune.records import Conversation

NAMED = 5
"""Left-out records that are reported one by one."""
_INSIDE = "//"
"""Between the data's path and the place of an embedded image; no file's path has it."""


def open_rows(data: DataRecipe) -> Format:
    """The rows of a data set, whatever its format; `to_conversation` reads them.

    Raises DataError if nothing is there, no format or several fit, or a table has no conversations.
    """
    readable = [name for name in fitting(data.path) if formats.get(name).random_access]
    if len(readable) > 1:
        raise DataError(
            f"it holds data of several formats ({', '.join(readable)})",
            where=data.path,
            fix="name a file, or put each format into a folder of its own",
        )
    if not data.path.startswith("hub:") and not Path(data.path).exists():
        fix = "check the stage's `data`; a data set of the hub is written hub:owner/name"
        raise DataError("there is no such file or folder", where=data.path, fix=fix)
    if not readable:
        names = ", ".join(name for name in formats.names() if formats.get(name).random_access)
        fix = f"data is read from {names}, recognised by the file's ending or the folder's files"
        raise DataError("not in a known data format", where=data.path, fix=fix)
    kind = formats.get(readable[0])
    for key in ("split", "subset"):
        if getattr(data, key) is not None and key not in kind.options:
            raise DataError(f"data in the format {readable[0]} has no '{key}'", where=data.path, fix="remove the key")
    for key in data.columns:
        if key not in COLUMNS:
            raise DataError(f"unknown key '{key}'", where="columns", fix=did_you_mean(key, COLUMNS))
    rows = kind(Location(data.path, DataError, data.split, data.subset, (*COLUMNS, *data.columns.values())))
    columns = rows.columns()
    if columns is not None and layout(_renamed(dict.fromkeys(columns, True), data.columns)) is None:
        fix = f"it has the columns {', '.join(columns)}; map them by `columns`, as in {{question: …, answer: …}}"
        raise DataError("there is no column 'conversations' or 'messages'", where=rows.label, fix=fix)
    return rows


def _renamed(row: Any, columns: Mapping[str, str]) -> Any:
    """The row with the keys of the recipe's `columns` instead of its own."""
    if not columns or not isinstance(row, dict):
        return row
    taken = {*columns.values()}
    return {key: value for key, value in row.items() if key not in taken} | {
        key: row[name] for key, name in columns.items() if name in row
    }


class DataSource:
    """The conversations of a data set. All of it is read once on opening; 40 bytes a conversation are kept.

    An image's name says where it is: the file's path, or `data.parquet//17.0` for the first image that conversation 17
    embeds. So images of the same name are the same image, in whichever sources.
    """

    def __init__(self, data: DataRecipe, skipped: Callable[[str], None] | None = None) -> None:
        """Raises DataError, with file and row, for the first row that cannot be used or lacks an image file.

        With `skipped`, such rows are left out; it gets the errors of the first few, and their number. A broken file is
        an error all the same.
        """
        self.weight = data.weight
        """How often one epoch passes over it."""
        self._columns = data.columns
        self._images = None if data.images is None else str(Path(data.images))
        self._folder = ImagesFolder(self._images or "", allow_outside=data.allow_outside)
        self._allow_outside = data.allow_outside
        if self._images is not None and not Path(self._images).is_dir():
            raise DataError("there is no such folder", where=self._images, fix="check the stage's `images`")
        self._rows = open_rows(data)
        self.label = self._rows.label
        self._numbers = array("q")  # (n), of each conversation's row, counted from 0
        self._places = array("q")  # (3n), where that row is
        self.pairs = 0
        """How many of the conversations are pairs of a chosen and a rejected answer."""
        self.keys: NDArray[np.uint64] = np.fromiter(self._scan(skipped), dtype=np.uint64)
        """(n), the same for conversations that begin with the same image, else different"""
        if not len(self.keys):
            fix = "write data for this stage, or leave the stage out of the recipe"
            raise DataError("there are no conversations in it", where=data.path, fix=fix)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Conversation:
        return self._conversation(self._rows.read(self._place(number)), self._numbers[number], number)

    def __iter__(self) -> Iterator[Conversation]:
        return (self[number] for number in range(len(self)))

    def holds(self, name: str) -> bool:
        """Whether the image is one that a row here embeds."""
        return name.startswith(self.label + _INSIDE)

    def image(self, name: str) -> ImageFile:
        """An embedded image. Raises DataError if it cannot be read."""
        number, index = map(int, name.rpartition(_INSIDE)[2].split("."))
        row = self._rows.read(self._place(number))
        where = f"{row.where}, image {index}"
        values = image_values(_renamed(row.values, self._columns), where)
        return ImageFile(embedded_image(values[index], where), where)

    def _place(self, number: int) -> Place:
        first, offset, length = self._places[3 * number : 3 * number + 3]
        return first, offset, length

    def _scan(self, skipped: Callable[[str], None] | None) -> Iterator[int]:
        """The key of every conversation."""
        digest, count = blake2b(), 0
        known: set[int] = set()  # image files that exist
        for number, row in enumerate(self._rows.scan(stop, images=True)):
            index = len(self._numbers)
            try:
                conversation = self._conversation(row, number, index)
                keys = self._check_images(conversation, row, known)
            except DataError as error:
                if skipped is None:
                    raise
                count += 1
                if count <= NAMED:
                    skipped(f"left out: {error}")
                continue
            texts = [turn.text if turn.learned else f"{turn.text}\1" for turn in conversation.turns]
            if conversation.rejected:
                texts.append(conversation.rejected)
                self.pairs += 1
            digest.update("\0".join((*conversation.images, *texts)).encode("utf-8", "surrogatepass"))
            self._numbers.append(number)
            self._places.extend(row.place)
            yield keys[0] if keys else _hash(f"{self.label}{_INSIDE}{number}")
        if skipped and count:
            skipped(f"{self.label}: {count} records left out")
        self.digest = digest.hexdigest()
        """The hash of all texts and image names."""

    def _check_images(self, conversation: Conversation, row: Row, known: set[int]) -> list[int]:
        keys = [_hash(name) for name in conversation.images]
        for name, key in zip(conversation.images, keys, strict=True):
            if key not in known and not self.holds(name):
                self._check_file(name, f"{row.where} (id {conversation.id})")
                known.add(key)
        return keys

    def _check_file(self, name: str, where: str) -> None:
        if not is_file(name):
            fix = "check `images`, the folder that its path starts from, or set the stage's `skip_bad_records`"
            raise DataError(f"its image {name} is missing", where=where, fix=fix)
        if not self._folder.holds(name):
            fix = "set `images` to a folder that holds all of them, or the stage's `allow_outside: true`"
            raise DataError(f"its image {name} is outside of the images' folder", where=where, fix=fix)

    def _conversation(self, row: Row, number: int, index: int) -> Conversation:
        def name(image: Any, place: int) -> str:
            file = file_name(image)
            if file is None:
                return f"{self.label}{_INSIDE}{index}.{place}"
            if self._images is None and not (self._allow_outside and Path(local_path(file)).is_absolute()):
                fix = "set the stage's `images`, the folder of such files"
                raise DataError(f"its image {file} is a file", where=row.where, fix=fix)
            return os.path.join(self._images or "", local_path(file))  # noqa: PTH118, a path object costs ten times as much

        with in_format(row.where, DataError, "correct it, or set the stage's `skip_bad_records`"):
            return to_conversation(_renamed(row.values, self._columns), number, row.where, name)


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
