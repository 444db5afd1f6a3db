"""What a teacher wrote, sorted: every reply is parsed, filtered, and written where it belongs.

Two steps, each with one sample in memory. The first judges the replies in the plan's order and puts them into a file
without a name beside the output; the second goes through it again and writes the final files. Between the two stands
what only the whole set tells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from vistune.clients.base import Reply, Request
from vistune.context import format_context
from vistune.files import storage_errors
from vistune.generate.attempts import Answer, chosen_answer
from vistune.generate.draw import fraction, pick
from vistune.generate.duplicates import Duplicates, Found
from vistune.generate.filters import Sample, reasons
from vistune.generate.hostile import prompt_leak
from vistune.generate.judged import Judged, Verdict
from vistune.generate.output import image_path, replacing, to_json, write_conversations
from vistune.generate.parse import ReplyError, parse_reply
from vistune.generate.plan import Plan, Planned
from vistune.generate.report import Report
from vistune.generate.store import Store
from vistune.records import IMAGE_TOKEN, Turn


@dataclass(frozen=True, slots=True)
class Style:
    """How accepted samples are written: the image's side in turn 1, what its path starts from, the file's format.

    With `near_duplicates` a sample may say nearly what one about an earlier image says; exactly the same it never may.
    """

    image_side: Literal["first", "random"] = "first"
    images: Path | None = None
    format: str = "llava"
    near_duplicates: bool = False


def sort_replies(plan: Plan, store: Store, out: Path, style: Style) -> Report:
    """Parse and filter every reply, in the plan's order, and write the files about them."""
    report = Report([kind.name for kind, _ in plan.shares])
    write_sorted(_judged(plan, store, report, style), report, out, style, plan.seed)
    return report


def write_sorted(judged: Iterable[Judged], report: Report, out: Path, style: Style, seed: int) -> None:
    """Write instruct.*, provenance.jsonl and rejected.jsonl into the folder `out` and count all in `report`."""
    with storage_errors(out), _spool(out) as spool, Duplicates(out) as duplicates:
        for one in judged:
            spool.write(one.dump() + "\n")
            if one.verdict == "accepted":
                duplicates.add("\n".join(turn.text for turn in one.turns))
        spool.seek(0)
        with replacing(out / "provenance.jsonl") as accepted, replacing(out / "rejected.jsonl") as rejected:
            new = _without_duplicates(map(Judged.load, spool), duplicates.found(), style)
            kept = _sorted(new, report, accepted, rejected)
            shown = (one.conversation(_with_image(one, style, seed)) for one in kept)
            write_conversations(shown, out / "instruct", style.format)


def _spool(folder: Path) -> IO[str]:
    """A text file without a name: it is gone with the process."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", newline="\n", dir=folder)


def _judged(plan: Plan, store: Store, report: Report, style: Style) -> Iterator[Judged]:
    """Every reply with its verdict, in the plan's order; what there is no reply to is counted."""
    for planned in plan:
        if planned.reasons:
            text = format_context(planned.record, planned.kind.context)
            about = _about(planned, plan.teacher, style) | {"attempts": 0, "cost": 0.0}  # nobody was asked
            yield Judged(about | _verdict(planned.reasons), (), text)
        elif planned.request is None:
            report.without_context += 1
        elif answer := chosen_answer(planned, plan.teacher, store):
            reply = answer.stored.reply
            said, turns = _judge(planned, planned.request, reply, plan.seed)
            about = _about(planned, plan.teacher, style) | _about_reply(answer) | said
            categories = tuple(dict.fromkeys(box.category for box in planned.record.boxes))
            yield Judged(about, turns, reply.text, categories)
        elif failure := store.failure(planned.key):
            about = _about(planned, plan.teacher, style) | {"attempts": failure.tries, "cost": None}
            yield Judged(about | _verdict((failure.reason,)), (), failure.words)
        else:
            report.add_pending(planned.kind.name)


def _without_duplicates(judged: Iterable[Judged], found: Found, style: Style) -> Iterator[Judged]:
    """All of them, those filtered after all that repeat an earlier accepted one."""
    number = 0
    for one in judged:
        if one.verdict != "accepted":
            yield one
            continue
        if found.exact[number]:
            one = one.rejected("duplicate")
        elif found.near[number] and not style.near_duplicates:
            one = one.rejected("near_duplicate")
        number += 1
        yield one


def _sorted(judged: Iterable[Judged], report: Report, accepted: TextIO, rejected: TextIO) -> Iterator[Judged]:
    """The accepted ones; each one's provenance is written on the way, a rejected one's with its raw text."""
    for one in judged:
        report.add(one)
        if one.verdict == "accepted":
            accepted.write(to_json(one.about) + "\n")
            yield one
        else:
            rejected.write(to_json({**one.about, "text": one.text}) + "\n")


def _judge(planned: Planned, request: Request, reply: Reply, seed: int) -> tuple[dict[str, Any], tuple[Turn, ...]]:
    """The verdict with its reasons, and the turns where there are any."""
    kind = planned.kind
    try:
        parsed = parse_reply(reply.text, bool(kind.questions), reply.finish)
    except ReplyError as error:
        return _verdict((str(error),)), ()
    turns = parsed.turns
    if kind.questions:
        turns = (Turn("user", pick(kind.questions, seed, planned.record.id, kind.name, "question")), *turns)
    if prompt_leak(kind.system, turns):
        return _verdict(("prompt_leak",)), turns
    codes = reasons(Sample(kind, request.query, turns, planned.record))
    return _verdict(codes, "filtered" if codes else "accepted") | {"repairs": parsed.repairs}, turns


def _verdict(codes: tuple[str, ...], verdict: Verdict = "quarantined") -> dict[str, Any]:
    return {"verdict": verdict, "reasons": codes}


def _about(planned: Planned, teacher: str, style: Style) -> dict[str, Any]:
    """The provenance but for the reply and the verdict."""
    return {
        "id": f"{planned.record.id}-{planned.kind.name}",
        "record": planned.record.id,
        "image": image_path(planned.record, style.images),
        "kind": planned.kind.name,
        "teacher": teacher,
        "prompt": planned.kind.prompt_hash,
        "request": planned.key,
        "usage": {},
    }


def _about_reply(answer: Answer) -> dict[str, Any]:
    request, stored = answer.attempt.request, answer.stored
    return {
        "model": stored.reply.model,
        "format": "text" if request.schema is None else "schema",
        "seed": request.seed,
        "request": answer.attempt.key,
        "usage": dict(stored.reply.usage),
        "cost": stored.cost.usd if stored.cost.pico else None,
        "attempts": answer.attempt.number,
    }


def _with_image(judged: Judged, style: Style, seed: int) -> tuple[Turn, ...]:
    """The turns with the image in the first one: before its text, or on a side drawn by hash (as in the paper)."""
    first, *later = judged.turns
    parts = [IMAGE_TOKEN, first.text]
    if style.image_side == "random" and fraction(seed, judged.about["record"], judged.kind, "side") < 0.5:
        parts.reverse()
    return Turn("user", "\n".join(parts)), *later
