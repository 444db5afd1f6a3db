"""A random sample of conversations to look at, whatever the size and format of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vistune.data.conversation import image_values, to_conversation
from vistune.data.source import open_rows
from vistune.errors import DataError
from vistune.formats import Place, Row, stop
from vistune.formats.conversations import FORMATS, output_path
from vistune.reading import bounded_lines, open_file, parse_json, read_json
from vistune.recipe.training import DataRecipe
from vistune.records import Turn
from vistune.seeded import HashSample

_ACCEPTED, _REJECTED = "provenance.jsonl", "rejected.jsonl"
_KEYS = {"id": str, "kind": str, "verdict": str, "reasons": list, "image": str}
"""Keys of a line of provenance that the page relies on."""


@dataclass(frozen=True)
class ViewSample:
    """A sample to look at. `image` is the value of its record: a file's name, or the image itself.

    `provenance` is that of a generated sample, with verdict and reasons; `text` the raw reply where it has no turns;
    `rejected` the answer that the last turn is preferred to.
    """

    id: str
    kind: str = ""
    turns: tuple[Turn, ...] = ()
    image: Any = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    rejected: str = ""


def draw_samples(data: Path, limit: int, seed: int, *, only_rejected: bool = False) -> list[ViewSample]:
    """At most `limit` samples of `data`, drawn by `seed`, in the order of the data.

    `data` is a folder that `generate` wrote, or a data file of any format that training reads. Raises DataError.
    """
    if data.is_dir() and (data / _ACCEPTED).is_file():
        return _of_run(data, limit, seed, only_rejected)
    if only_rejected:
        raise DataError("it holds no rejected samples", where=str(data), fix="give the folder that generate wrote")
    return _of_file(data, limit, seed)


def images_folder(data: Path) -> Path:
    """The folder that image paths of `data` start from: as its run noted it in run.json, else that of `data`.

    Raises DataError for a run.json that cannot be read.
    """
    folder = data if data.is_dir() else data.parent
    path = folder / "run.json"
    if not path.is_file():
        return folder
    run = read_json(path, DataError)
    images = run.get("images") if isinstance(run, dict) else None
    return Path(images) if isinstance(images, str) else folder


def _of_run(folder: Path, limit: int, seed: int, only_rejected: bool) -> list[ViewSample]:
    names = (_REJECTED,) if only_rejected else (_ACCEPTED, _REJECTED)
    rows = HashSample[tuple[int, dict[str, Any]]](limit, str(seed))
    for number, row in enumerate(row for name in names for row in _provenance(folder / name)):
        rows.add(row["id"], (number, row))
    drawn = [row for _, row in sorted(rows.items(), key=lambda item: item[0])]
    turns = _turns(folder, {row["id"] for row in drawn if row["verdict"] == "accepted"})
    return [
        ViewSample(row["id"], row["kind"], turns.get(row["id"], ()), row["image"], row, row.pop("text", ""))
        for row in drawn
    ]


def _provenance(path: Path) -> Iterator[dict[str, Any]]:
    with open_file(path, DataError) as file:
        for number, line in enumerate(bounded_lines(file, str(path), DataError), 1):
            where = f"{path}: line {number}"
            row = parse_json(line, where, DataError)
            for key, kind in _KEYS.items():
                if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                    fix = "give the folder that generate wrote"
                    raise DataError(
                        f"no line of provenance: '{key}' is missing or no {kind.__name__}", where=where, fix=fix
                    )
            yield row


def _turns(folder: Path, ids: set[str]) -> dict[str, tuple[Turn, ...]]:
    """The turns of the accepted samples with these ids."""
    if not ids:
        return {}
    files = [path for form in FORMATS if (path := output_path(folder / "instruct", form)).is_file()]
    if not files:
        raise DataError("the conversations are missing", where=str(folder / "instruct.json"), fix="generate again")
    rows = open_rows(DataRecipe(path=str(files[0]))).scan(stop, images=True)
    samples = (_sample(row, number) for number, row in enumerate(rows))
    return {sample.id: sample.turns for sample in samples if sample.id in ids}


def _of_file(path: Path, limit: int, seed: int) -> list[ViewSample]:
    drawn = HashSample[tuple[int, Place]](limit, str(seed))
    rows = open_rows(DataRecipe(path=str(path)))
    for number, row in enumerate(rows.scan(stop, images=True)):
        drawn.add(str(number), (number, row.place))
    return [_sample(rows.read(place), number) for number, place in sorted(drawn.items())]


def _sample(row: Row, number: int) -> ViewSample:
    conversation = to_conversation(row.values, number, row.where, lambda _, place: str(place))
    sample = ViewSample(conversation.id, conversation.kind, conversation.turns, rejected=conversation.rejected)
    return replace(sample, image=image_values(row.values, row.where)[0]) if conversation.images else sample
