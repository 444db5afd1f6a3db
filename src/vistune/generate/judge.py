"""One sample of the plan and what there is of it in the store, judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.formats.conversations import image_path
from vistune.generate.attempts import Answer, chosen_answer
from vistune.generate.filters import Sample, reasons
from vistune.generate.injection import prompt_leak
from vistune.generate.judged import Judged, Verdict
from vistune.generate.plan import Plan, Planned
from vistune.generate.replies import ParsedReply, ReplyError
from vistune.generate.store import Store
from vistune.llm.client import Request
from vistune.records import Turn
from vistune.scene.context import format_context
from vistune.seeded import pick


def judge(
    planned: Planned, plan: Plan, store: Store, images: Path | None, answer: Answer | None = None
) -> Judged | None:
    """The sample with its verdict; None if nobody was asked about it, and nobody has to be, or not yet.

    `answer` is its chosen reply where that is at hand. Paths of images start from the folder `images`.
    """
    about = _about(planned, plan.teacher, images)
    if planned.reasons:
        text = format_context(planned.record, planned.kind.context)
        return Judged(about | {"attempts": 0, "cost": 0.0} | _verdict(planned.reasons), (), text)  # nobody was asked
    if planned.request is None:
        return None
    if answer := answer or chosen_answer(planned, plan.teacher, store):
        reply = answer.stored.reply
        said, turns = _judge(planned, planned.request, answer.read, plan)
        categories = tuple(dict.fromkeys(box.category for box in planned.record.boxes))
        return Judged(about | _about_reply(answer) | said, turns, reply.text, categories)
    if failure := store.failure(planned.key):
        about |= {"attempts": failure.tries, "cost": None}
        return Judged(about | _verdict((failure.reason,)), (), failure.words)
    return None


def _judge(
    planned: Planned, request: Request, read: ParsedReply | ReplyError, plan: Plan
) -> tuple[dict[str, Any], tuple[Turn, ...]]:
    """The verdict with its reasons, and the turns where there are any."""
    kind = planned.kind
    if isinstance(read, ReplyError):
        return _verdict((str(read),)), ()
    turns = read.turns
    if kind.questions:
        turns = (Turn("user", pick(kind.questions, plan.seed, planned.record.id, kind.name, "question")), *turns)
    sample = Sample(kind, request.query, turns, planned.record, plan.vocabulary)
    if prompt_leak(sample):
        return _verdict(("prompt_leak",)), turns
    codes = reasons(sample)
    return _verdict(codes, "filtered" if codes else "accepted") | {"repairs": read.repairs}, turns


def _verdict(codes: tuple[str, ...], verdict: Verdict = "quarantined") -> dict[str, Any]:
    return {"verdict": verdict, "reasons": codes}


def _about(planned: Planned, teacher: str, images: Path | None) -> dict[str, Any]:
    """The provenance but for the reply and the verdict."""
    return {
        "id": f"{planned.record.id}-{planned.kind.name}",
        "record": planned.record.id,
        "image": image_path(planned.record, images),
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
