"""What a teacher wrote, sorted: every reply is parsed, filtered, and written where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from vistune.clients.base import Reply, Request
from vistune.errors import VistuneError
from vistune.generate.draw import fraction, pick
from vistune.generate.filters import Sample, reasons
from vistune.generate.output import image_path, replacing, to_json, write_llava
from vistune.generate.parse import ReplyError, parse_answer, parse_dialogue
from vistune.generate.plan import Plan, Planned
from vistune.generate.report import KindReport, Report, Verdict
from vistune.generate.store import Store
from vistune.records import IMAGE_TOKEN, Conversation, Turn


@dataclass(frozen=True, slots=True)
class Style:
    """How accepted samples are written: where the image stands in turn 1, and what its path starts from."""

    image_side: Literal["first", "random"] = "first"
    images: Path | None = None


def sort_replies(plan: Plan, store: Store, out: Path, style: Style) -> Report:
    """Parse and filter every reply, in the plan's order, and write the files about them."""
    report = Report({kind.name: KindReport() for kind, _ in plan.shares})
    with replacing(out / "provenance.jsonl") as accepted, replacing(out / "rejected.jsonl") as rejected:
        write_llava(_accepted(plan, store, report, style, accepted, rejected), out / "instruct.json")
    return report


def _accepted(
    plan: Plan, store: Store, report: Report, style: Style, accepted: TextIO, rejected: TextIO
) -> Iterator[Conversation]:
    for planned in plan:
        if planned.request is None:
            report.without_context += 1
            continue
        reply = store.get(planned.key)
        if reply is None:
            raise VistuneError(f"the reply about record '{planned.record.id}' was removed during the run")
        verdict, codes, turns = _judge(planned, planned.request, reply, plan.seed)
        report.kinds[planned.kind.name].add(verdict, codes, turns)
        about = _provenance(planned, planned.request, reply, plan.teacher, verdict, codes)
        if verdict == "accepted":
            accepted.write(to_json(about) + "\n")
            turns = _with_image(turns, style, (plan.seed, planned.record.id, planned.kind.name, "side"))
            image = image_path(planned.record, style.images)
            yield Conversation(about["id"], turns, (image,), planned.kind.name, about)
        else:
            rejected.write(to_json({**about, "text": reply.text}) + "\n")


def _judge(
    planned: Planned, request: Request, reply: Reply, seed: int
) -> tuple[Verdict, tuple[str, ...], tuple[Turn, ...]]:
    kind = planned.kind
    try:
        if kind.questions:
            turns = parse_answer(reply.text, pick(kind.questions, seed, planned.record.id, kind.name, "question"))
        else:
            turns = parse_dialogue(reply.text)
    except ReplyError as error:
        return "quarantined", (str(error),), ()
    codes = reasons(Sample(kind, request.query, turns))
    return ("filtered" if codes else "accepted"), codes, turns


def _provenance(
    planned: Planned, request: Request, reply: Reply, teacher: str, verdict: Verdict, codes: Sequence[str]
) -> dict[str, Any]:
    return {
        "id": f"{planned.record.id}-{planned.kind.name}",
        "kind": planned.kind.name,
        "teacher": teacher,
        "model": reply.model,
        "prompt": planned.kind.prompt_hash,
        "seed": request.seed,
        "request": planned.key,
        "usage": dict(reply.usage),
        "verdict": verdict,
        "reasons": list(codes),
    }


def _with_image(turns: tuple[Turn, ...], style: Style, key: tuple[object, ...]) -> tuple[Turn, ...]:
    """The turns with the image in the first one: before its text, or on a side drawn by hash (as in the paper)."""
    parts = [IMAGE_TOKEN, turns[0].text]
    if style.image_side == "random" and fraction(*key) < 0.5:
        parts.reverse()
    return Turn("user", "\n".join(parts)), *turns[1:]
