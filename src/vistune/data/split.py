"""Splits a data file into training and test rows, so that no test image is in the training rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.data.conversation import file_name, image_values
from vistune.data.near_identical import NearIdentical
from vistune.errors import DataError
from vistune.formats import read_objects
from vistune.reading import in_format
from vistune.seeded import fraction
from vistune.storage import atomic_text


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of both parts, and how many images look the same as an earlier one."""

    train: Sequence[dict[str, Any]]
    test: Sequence[dict[str, Any]]
    near_identical: int


def split(path: Path, images: Path, share: float, seed: int = 0) -> Split:
    """About `share` of the images, with all their rows, for the test; near-identical images are in one part.

    An image's part depends on its name and the seed alone, so that it stays when data is added. A row without an
    image counts as one of its own. Raises DataError for a broken file or image, and if a part is empty.
    """
    if not 0 < share < 1:
        raise DataError(f"a test share of {share}", where="--test", fix="give a share between 0 and 1, such as 0.1")
    known, groups, rows = NearIdentical(), _Groups(), []
    for number, (row, where, _) in enumerate(read_objects(path, DataError)):
        with in_format(where, DataError):
            files = [name for value in image_values(row, where) if (name := file_name(value)) is not None]
        names = [str(images / name) for name in files] or [f"row {number}"]
        for name in names:
            groups.join(name, names[0])
        rows.append((row, names[0]))
    near_identical = 0
    for name in groups.names():
        if not name.startswith("row "):
            first = str(known.add(Path(name)))
            near_identical += first != name
            groups.join(name, first)
    parts: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for row, name in rows:
        key = groups.first(name).removeprefix(str(images))
        parts[fraction(seed, "split", key) < share].append(row)
    if not parts[True] or not parts[False]:
        part = "training" if parts[True] else "test"
        raise DataError(f"no image falls into the {part} part", where=str(path), fix="use another --test or --seed")
    return Split(parts[False], parts[True], near_identical)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSON list, one row a line."""
    with atomic_text(path) as file:
        file.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")


class _Groups:
    """Names that belong together (disjoint sets)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def names(self) -> list[str]:
        return list(self._parents)

    def first(self, name: str) -> str:
        while (parent := self._parents.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, name: str, other: str) -> None:
        a, b = sorted((self.first(name), self.first(other)))
        self._parents[b] = a
