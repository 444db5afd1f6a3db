"""One data file of a stage: its conversations by number, all of them checked before the first is used."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vistune.data.conversation import image_values, to_conversation
from vistune.data.images import ImageFile
from vistune.data.readers import open_reader
from vistune.data.values import content, file_name
from vistune.errors import DataError
from vistune.recipe.training import DataRecipe
from vistune.records import Conversation

_INSIDE = "//"
"""Between the data's path and the place of an image that a record brings along; no file's path has it."""


class Source:
    """The conversations of a data file. All of it is read once on opening; eight bytes a record are kept.

    An image's name says where it is: the file's path, or `data.parquet//17.0` for the first image that record 17
    brings along. So images of the same name are the same image, in whichever sources.
    """

    def __init__(self, data: DataRecipe, skip: Callable[[DataError], None] | None = None) -> None:
        """Raises DataError, with file and record, for the first record that cannot be used or lacks an image file.

        With `skip`, such records are left out and it gets their errors. A broken file is an error all the same.
        """
        self.label = data.label()
        """What messages call it."""
        self.weight = data.weight
        """How often one epoch passes over it."""
        self._images = None if data.images is None else str(Path(data.images))
        if self._images is not None and not Path(self._images).is_dir():
            raise DataError("there is no such folder", where=self._images, fix="check the stage's `images`")
        self._reader = open_reader(data)
        self._records = array("q")  # (n), the number of each conversation's record
        self.keys: NDArray[np.uint64] = np.fromiter(self._scan(skip), dtype=np.uint64)
        """(n), the same for conversations that begin with the same image, else different"""
        if not len(self.keys):
            raise DataError("there are no conversations in it", where=data.path)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Conversation:
        record = self._records[number]
        return self._conversation(self._reader[record], record)

    def __iter__(self) -> Iterator[Conversation]:
        return (self[number] for number in range(len(self)))

    def holds(self, name: str) -> bool:
        """Whether the image is one that a record here brings along."""
        return name.startswith(self.label + _INSIDE)

    def image(self, name: str) -> ImageFile:
        """An image that a record brings along. Raises DataError if it is not to be had."""
        number, index = map(int, name.rpartition(_INSIDE)[2].split("."))
        where = f"{self._reader.where(number)}, image {index}"
        return ImageFile(content(image_values(self._reader[number], where)[index], where), where)

    def _scan(self, skip: Callable[[DataError], None] | None) -> Iterator[int]:
        """The key of every conversation."""
        digest = blake2b()
        known: set[int] = set()  # image files that are there
        for number, row in enumerate(self._reader.scan()):
            try:
                conversation = self._conversation(row, number)
                keys = self._check_images(conversation, number, known)
            except DataError as error:
                if skip is None:
                    raise
                skip(error)
                continue
            digest.update("\0".join((*conversation.images, *(turn.text for turn in conversation.turns))).encode())
            self._records.append(number)
            yield keys[0] if keys else _hash(f"{self.label}{_INSIDE}{number}")
        self.digest = digest.hexdigest()
        """The hash of all texts and image names."""

    def _check_images(self, conversation: Conversation, number: int, known: set[int]) -> list[int]:
        """The keys of the images, which are there."""
        keys = [_hash(name) for name in conversation.images]
        for name, key in zip(conversation.images, keys, strict=True):
            if key not in known and not self.holds(name):
                if not Path(name).is_file():
                    where = f"{self._reader.where(number)} (id {conversation.id})"
                    raise DataError(f"its image {name} is missing", where=where)
                known.add(key)
        return keys

    def _conversation(self, row: Any, number: int) -> Conversation:
        try:
            return to_conversation(row, number, "", lambda value, place: self._name(value, f"{number}.{place}"))
        except DataError as error:
            raise DataError(error.what, where=self._reader.where(number) + error.where, fix=error.fix) from None

    def _name(self, image: Any, place: str) -> str:
        file = file_name(image)
        if file is None:
            return f"{self.label}{_INSIDE}{place}"
        if self._images is None:
            raise DataError(f"its image {file} is a file", fix="set the stage's `images`, the folder of such files")
        return os.path.join(self._images, file)  # noqa: PTH118, a path object costs ten times as much


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
