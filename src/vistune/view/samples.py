"""A random sample of conversations to look at, whatever the size and format of the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vistune.data.conversation import image_values, to_conversation
from vistune.data.readers import open_reader
from vistune.errors import DataError
from vistune.formats.conversations import FORMATS, output_path
from vistune.recipe.training import DataRecipe
from vistune.records import Turn
from vistune.seeded import HashSample

_ACCEPTED, _REJECTED = "provenance.jsonl", "rejected.jsonl"


@dataclass(frozen=True)
class Shown:
    """A sample to look at. `image` is the value that its record has: a file's name, or the image itself.

    `about` is its provenance where there is one, with verdict and reasons; `text` the raw reply where it has no turns.
    """

    id: str
    kind: str = ""
    turns: tuple[Turn, ...] = ()
    image: Any = None
    about: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


def draw_samples(data: Path, limit: int, seed: int, *, only_rejected: bool = False) -> list[Shown]:
    """At most `limit` samples of `data`, drawn by `seed`, in the order of the data.

    `data` is a folder that `generate` wrote, or a data file of any format that training reads. Raises DataError.
    """
    if data.is_dir() and (data / _ACCEPTED).is_file():
        return _of_run(data, limit, seed, only_rejected)
    if only_rejected:
        raise DataError("it holds no rejected samples", where=str(data), fix="give the folder that generate wrote")
    return _of_file(data, limit, seed)


def _of_run(folder: Path, limit: int, seed: int, only_rejected: bool) -> list[Shown]:
    names = (_REJECTED,) if only_rejected else (_ACCEPTED, _REJECTED)
    rows = HashSample[tuple[int, dict[str, Any]]](limit, str(seed))
    lines = (row for name in names for row in _rows(folder / name))
    for number, row in enumerate(lines):
        rows.add(str(row["id"]), lambda found=(number, row): found)  # type: ignore[misc]
    drawn = [row for _, row in sorted(rows.items(), key=lambda one: one[0])]
    wanted = {str(row["id"]) for row in drawn if row["verdict"] == "accepted"}
    turns = _turns(folder, wanted)
    return [
        Shown(str(row["id"]), row["kind"], turns.get(str(row["id"]), ()), row["image"], row, row.pop("text", ""))
        for row in drawn
    ]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"not valid JSON: {error}", where=f"{path}: line {number}") from None


def _turns(folder: Path, wanted: set[str]) -> dict[str, tuple[Turn, ...]]:
    """The turns of the samples with these ids."""
    if not wanted:
        return {}
    files = [path for form in FORMATS if (path := output_path(folder / "instruct", form)).is_file()]
    if not files:
        raise DataError("the conversations are missing", where=str(folder / "instruct.json"), fix="generate again")
    found = (one for one in _conversations(files[0]) if one.id in wanted)
    return {one.id: one.turns for one in found}


def _of_file(path: Path, limit: int, seed: int) -> list[Shown]:
    rows = HashSample[int](limit, str(seed))
    reader = open_reader(DataRecipe(path=str(path)))
    for number, _ in enumerate(reader.scan()):
        rows.add(str(number), lambda number=number: number)  # type: ignore[misc]
    return [_shown(reader[number], number, reader.where(number)) for number in sorted(rows.items())]


def _conversations(path: Path) -> Iterator[Shown]:
    reader = open_reader(DataRecipe(path=str(path)))
    for number, row in enumerate(reader.scan()):
        yield _shown(row, number, reader.where(number))


def _shown(row: Any, number: int, where: str) -> Shown:
    found = to_conversation(row, number, where, lambda _, place: str(place))
    shown = Shown(found.id, found.kind, found.turns)
    return replace(shown, image=image_values(row, where)[0]) if found.images else shown


def kinds_and_reasons(samples: Iterable[Shown]) -> dict[str, list[str]]:
    """What there is to filter by: the kinds, verdicts and reasons of the samples, sorted."""
    samples = list(samples)
    return {
        "kind": sorted({one.kind for one in samples if one.kind}),
        "verdict": sorted({one.about["verdict"] for one in samples if one.about}),
        "reason": sorted({reason for one in samples for reason in one.about.get("reasons", ())}),
    }
