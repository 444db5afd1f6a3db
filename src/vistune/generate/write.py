"""The second pass: judged samples in the plan's order, without duplicates, into the files of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TextIO

from vistune.formats.conversations import FORMATS, output_path, to_json, write_conversations
from vistune.generate.dedup import Deduplicator
from vistune.generate.judge import JudgedSample
from vistune.generate.pairs import Balance
from vistune.generate.report import Report
from vistune.recipe.generation import GenerateRecipe
from vistune.records import IMAGE_TOKEN, Conversation, Turn
from vistune.seeded import fraction
from vistune.storage import atomic_text

PAIRS = "pairs.jsonl"
"""The file of pairs of answers."""
_ABOUT = ("provenance", "rejected")
_STEMS = ("align", "instruct")
"""Names of the data of both stages, without the ending of their format."""
_BLOCK = 4_096
"""Samples that are compared with all earlier ones at a time."""


def file_names() -> list[str]:
    """The names of all files that a run may write, but for the store of replies."""
    data = [output_path(Path(stem), form).name for stem in _STEMS for form in FORMATS]
    return [*data, *(f"{name}.jsonl" for name in _ABOUT), PAIRS, "report.json", "report.html", "recipe.yaml"]


def remove_other_formats(out: Path, form: str) -> None:
    """Remove the data in all formats but `form`, which an earlier run left in the folder."""
    for other in FORMATS:
        for stem in _STEMS:
            if other != form:
                output_path(out / stem, other).unlink(missing_ok=True)


def write_samples(samples: Iterable[JudgedSample], report: Report, out: Path, recipe: GenerateRecipe) -> None:
    """Write instruct.*, provenance.jsonl, rejected.jsonl and, for `recipe.pairs`, pairs.jsonl into the folder `out`.

    All is counted in `report`.

    One block of samples is in memory at a time. If it fails, the files are as they were. Raises StorageError if the
    disk is full.
    """
    new = _without_duplicates(samples, recipe)
    with ExitStack() as files:
        provenance, rejected = (files.enter_context(atomic_text(out / f"{name}.jsonl")) for name in _ABOUT)
        accepted = _accepted(new, report, provenance, rejected)
        if recipe.pairs:
            accepted = _writing_pairs(accepted, files.enter_context(atomic_text(out / PAIRS)), report)
        else:
            (out / PAIRS).unlink(missing_ok=True)  # an earlier run's, of other data
        write_conversations((_conversation(one, recipe) for one in accepted), out / "instruct", recipe.format)


def _without_duplicates(samples: Iterable[JudgedSample], recipe: GenerateRecipe) -> Iterator[JudgedSample]:
    """All samples; an accepted one that repeats an earlier accepted one becomes filtered."""
    if recipe.keep_duplicates:
        yield from samples
        return
    left, dedup = iter(samples), Deduplicator()
    while block := list(islice(left, _BLOCK)):
        texts = ["\n".join(turn.text for turn in one.turns) for one in block if one.verdict == "accepted"]
        marks = iter(dedup.mark(texts))
        for one in block:
            mark = next(marks) if one.verdict == "accepted" else ""
            keep = not mark or (recipe.keep_near_duplicates and mark == "near_duplicate")
            yield one if keep else one.filtered(mark)


def _accepted(
    samples: Iterable[JudgedSample], report: Report, provenance: TextIO, rejected: TextIO
) -> Iterator[JudgedSample]:
    """The accepted samples; the provenance of each is written on the way, of a rejected one with its raw reply."""
    for one in samples:
        report.add(one)
        if one.verdict == "accepted":
            provenance.write(to_json(one.about) + "\n")
            yield one
        else:
            rejected.write(to_json({**one.about, "text": one.text}) + "\n")


def _writing_pairs(samples: Iterable[JudgedSample], file: TextIO, report: Report) -> Iterator[JudgedSample]:
    """The samples; their pairs of answers are written on the way, and counted."""
    balance = Balance()
    for one in samples:
        for number, pair in enumerate(one.preferences, 1):
            for id_, ready in balance.add(f"{one.id}-{number}", pair):
                file.write(ready.to_row(id_) + "\n")
                report.preferences[ready.reason] += 1
        yield one


def _conversation(sample: JudgedSample, recipe: GenerateRecipe) -> Conversation:
    """The training sample, with the image before the first text, or on a side drawn by hash as in the paper."""
    first, *later = sample.turns
    parts = [IMAGE_TOKEN, first.text]
    if recipe.image_side == "random" and fraction(recipe.seed, sample.about["record"], sample.kind, "side") < 0.5:
        parts.reverse()
    turns = (Turn("user", "\n".join(parts)), *later)
    return Conversation(sample.id, turns, (str(sample.about["image"]),), sample.kind)
