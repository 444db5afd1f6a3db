"""What a teacher wrote, sorted: every reply is parsed, filtered, and written where it belongs.

A sample is judged as soon as nothing more is to come for it, and put into a file without a name beside the output. When
all are there, that is gone through in the plan's order: once for what only the whole set tells, once to write the final
files. One sample is in memory at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

from vistune.formats.conversations import to_json, write_conversations
from vistune.generate.attempts import Answer
from vistune.generate.dedup import Deduplicator
from vistune.generate.judge import judge
from vistune.generate.judged import Judged
from vistune.generate.plan import Plan, Planned
from vistune.generate.report import Report
from vistune.generate.spool import Spool
from vistune.generate.store import Store
from vistune.records import IMAGE_TOKEN, Turn
from vistune.seeded import fraction
from vistune.storage import atomic_text, storage_errors


@dataclass(frozen=True, slots=True)
class Style:
    """How accepted samples are written: the image's side in turn 1, what its path starts from, the file's format.

    With `near_duplicates` a sample may say nearly what one about an earlier image says; exactly the same it never may.
    """

    image_side: Literal["first", "random"] = "first"
    images: Path | None = None
    format: str = "llava"
    near_duplicates: bool = False


class Sorter:
    """Judges samples when they are settled, in whatever order, and writes them in the plan's."""

    def __init__(self, plan: Plan, store: Store, out: Path, style: Style) -> None:
        self._plan, self._store, self._out, self._style = plan, store, out, style
        self._spool = Spool(out)
        self._pending: Counter[str] = Counter()
        self.answered = 0
        """Of so many settled samples there is a reply, or the server's word that there will be none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def settled(self, planned: Planned, answer: Answer | None = None) -> None:
        """Judge a sample for which nothing more is to come; `answer` is its chosen reply, if at hand."""
        judged = judge(planned, self._plan, self._store, self._style.images, answer)
        self.answered += bool(judged and judged.about["attempts"])
        with storage_errors(self._out):
            self._spool.put(planned.place, judged)

    def settle_rest(self) -> None:
        """Go through the samples that are not settled yet."""
        for planned in self._plan:
            if planned.place not in self._spool:
                self.settled(planned)
                if self._spool.empty(planned.place) and planned.request:
                    self._pending[planned.kind.name] += 1

    def write(self, *, complete: bool) -> Report:
        """Write all files about all samples; unless all are settled (`complete`), the rest are gone through first."""
        report = Report([kind.name for kind, _ in self._plan.shares])
        if not complete:
            self.settle_rest()
        for kind, count in self._pending.items():
            report.add_pending(kind, count)
        report.without_context = self._spool.nothing - report.totals()["pending"]
        write_sorted(self._spool, report, self._out, self._style, self._plan.seed)
        return report


def sort_replies(plan: Plan, store: Store, out: Path, style: Style) -> Report:
    """Parse and filter every reply that is stored, and write the files about them."""
    with Sorter(plan, store, out, style) as sorter:
        return sorter.write(complete=False)


def write_sorted(samples: Iterable[Judged], report: Report, out: Path, style: Style, seed: int) -> None:
    """Write instruct.*, provenance.jsonl and rejected.jsonl into the folder `out` and count all in `report`.

    `samples` stand in the plan's order.
    """
    with (
        storage_errors(out),
        atomic_text(out / "provenance.jsonl") as accepted,
        atomic_text(out / "rejected.jsonl") as rejected,
    ):
        kept = _sorted(_without_duplicates(iter(samples), style), report, accepted, rejected)
        shown = (one.conversation(_with_image(one, style, seed)) for one in kept)
        write_conversations(shown, out / "instruct", style.format)


def _without_duplicates(judged: Iterator[Judged], style: Style) -> Iterator[Judged]:
    """All of them; accepted ones that repeat an earlier accepted one as filtered."""
    deduplicator = Deduplicator()
    while block := list(islice(judged, 4096)):
        accepted = [one for one in block if one.verdict == "accepted"]
        marks = deduplicator.mark(["\n".join(turn.text for turn in one.turns) for one in accepted])
        marked = {one.id: mark for one, mark in zip(accepted, marks, strict=True) if mark}
        for one in block:
            mark = marked.get(one.id, "")
            ignored = not mark or (mark == "near_duplicate" and style.near_duplicates)
            yield one if ignored else one.rejected(mark)


def _sorted(judged: Iterable[Judged], report: Report, accepted: TextIO, rejected: TextIO) -> Iterator[Judged]:
    """The accepted ones; each one's provenance is written on the way, a rejected one's with its raw text."""
    for one in judged:
        report.add(one)
        if one.verdict == "accepted":
            accepted.write(to_json(one.about) + "\n")
            yield one
        else:
            rejected.write(to_json({**one.about, "text": one.text}) + "\n")


def _with_image(judged: Judged, style: Style, seed: int) -> tuple[Turn, ...]:
    """The turns with the image in the first one: before its text, or on a side drawn by hash (as in the paper)."""
    first, *later = judged.turns
    parts = [IMAGE_TOKEN, first.text]
    if style.image_side == "random" and fraction(seed, judged.about["record"], judged.kind, "side") < 0.5:
        parts.reverse()
    return Turn("user", "\n".join(parts)), *later
