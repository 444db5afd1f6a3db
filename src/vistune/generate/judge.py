"""A sample's reply in the store, parsed and judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from vistune.formats.conversations import image_path
from vistune.generate.filters import Sample, reasons
from vistune.generate.injection import prompt_leak
from vistune.generate.kinds import Kind
from vistune.generate.pairs import Preference, preferences
from vistune.generate.plan import Plan, PlannedSample
from vistune.generate.replies import ParsedReply, ReplyError, parse_reply
from vistune.llm.client import Reply, Request
from vistune.llm.reply_rows import StoredReply
from vistune.llm.store import Store
from vistune.records import Turn
from vistune.scene.context import format_context
from vistune.seeded import pick

_FAILED = "judging_failed"
"""The reason of a reply that a parser or filter of ours fails on."""


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """A sample with its verdict. `text` is the raw reply.

    `about` is its line of the provenance file (docs/quality.md), `turns` are empty where the reply could not be
    parsed, `categories` are the different ones of the image's boxes. `preferences` are the pairs of answers made of it.
    """

    about: Mapping[str, Any]
    turns: tuple[Turn, ...]
    text: str
    categories: tuple[str, ...] = ()
    preferences: tuple[Preference, ...] = ()

    @property
    def id(self) -> str:
        return str(self.about["id"])

    @property
    def kind(self) -> str:
        return str(self.about["kind"])

    @property
    def verdict(self) -> str:
        """`accepted` into the data, `filtered` for its content, or `quarantined` as not usable at all."""
        return str(self.about["verdict"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reason codes of a rejected sample; it counts under the first."""
        return tuple(self.about["reasons"])

    def filtered(self, reason: str) -> JudgedSample:
        """The accepted sample, filtered for `reason` after all."""
        return replace(self, about={**self.about, **_verdict((reason,), "filtered")})


def with_preferences(one: JudgedSample, sample: PlannedSample, plan: Plan) -> JudgedSample:
    """The sample, with its pairs of answers if it is accepted."""
    if one.verdict != "accepted":
        return one
    pairs = preferences(
        Sample(sample.kind, sample.record, one.turns, plan.vocabulary), plan.seed, str(one.about["image"])
    )
    return replace(one, preferences=tuple(pairs))


def usable(kind: Kind, reply: Reply) -> bool:
    """Whether no other attempt is needed: the reply can be read, or declines, as the next one would."""
    parsed = _parse(kind, reply)
    return isinstance(parsed, ParsedReply) or str(parsed) == "refusal"


def judge(sample: PlannedSample, plan: Plan, teacher: str, store: Store, images: Path | None) -> JudgedSample | None:
    """The sample with its verdict; None if it has no reply and none is refused, so that it is still pending.

    Paths of images are relative to the folder `images`.
    """
    about: dict[str, Any] = {
        "id": sample.id,
        "record": sample.record.id,
        "image": image_path(sample.record, images),
        "kind": sample.kind.name,
        "teacher": teacher,
        "prompt": sample.kind.prompt_hash,
        "request": "",
        "usage": {},
    }
    if sample.request is None:
        text = format_context(sample.record, sample.kind.context)
        return JudgedSample(about | {"attempts": 0, "cost": 0.0} | _verdict(sample.reasons), (), text)
    if attempt := _chosen_attempt(sample, teacher, store):
        return _judge(sample, plan, about, attempt)
    key = sample.request.key(teacher)
    if failure := store.failure(key):
        about |= {"request": key, "attempts": failure.tries, "cost": None}
        return JudgedSample(about | _verdict((failure.reason,)), (), failure.message)
    return None


@dataclass(frozen=True, slots=True)
class Attempt:
    """The `number`-th request for a sample, with its reply, parsed or the reason why it cannot be."""

    number: int
    request: Request
    key: str
    stored: StoredReply
    parsed: ParsedReply | ReplyError


def attempts(sample: PlannedSample, teacher: str, store: Store) -> Iterator[Attempt]:
    """The attempts at a sample that have a reply, in order."""
    if sample.request is None:
        return
    for number in count(1):
        request = sample.request.attempt(number)
        key = request.key(teacher)
        stored = store.get(key)
        if stored is None:
            return
        yield Attempt(number, request, key, stored, _parse(sample.kind, stored.reply))


def _chosen_attempt(sample: PlannedSample, teacher: str, store: Store) -> Attempt | None:
    """The first attempt whose reply is settled or can be parsed, otherwise the last; None without a reply."""
    attempt = None
    for attempt in attempts(sample, teacher, store):
        if attempt.stored.settled or isinstance(attempt.parsed, ParsedReply) or str(attempt.parsed) == "refusal":
            break
    return attempt


def _parse(kind: Kind, reply: Reply) -> ParsedReply | ReplyError:
    try:
        return parse_reply(reply.text, answer_only=bool(kind.questions), finish=reply.finish)
    except ReplyError as error:
        return error
    except Exception:  # no reply ends a run: its text is in rejected.jsonl
        return ReplyError(_FAILED)


def _judge(sample: PlannedSample, plan: Plan, about: Mapping[str, Any], attempt: Attempt) -> JudgedSample:
    reply, cost = attempt.stored.reply, attempt.stored.cost
    about = {
        **about,
        "model": reply.model,
        "format": "text" if attempt.request.schema is None else "schema",
        "seed": attempt.request.seed,
        "request": attempt.key,
        "usage": dict(reply.usage),
        "cost": cost.usd if cost.pico else None,
        "attempts": attempt.number,
    }
    try:
        verdict, turns = _verdict_on(sample, plan, attempt.parsed)
    except Exception:  # as in `_parse`
        verdict, turns = _verdict((_FAILED,)), ()
    categories = tuple(dict.fromkeys(box.category for box in sample.record.boxes))
    return JudgedSample(about | verdict, turns, reply.text, categories)


def _verdict_on(
    planned: PlannedSample, plan: Plan, parsed: ParsedReply | ReplyError
) -> tuple[dict[str, Any], tuple[Turn, ...]]:
    """The verdict with its reasons, and the turns where there are any."""
    if isinstance(parsed, ReplyError):
        return _verdict((str(parsed),)), ()
    kind, turns = planned.kind, parsed.turns
    if kind.questions:
        turns = (Turn("user", pick(kind.questions, plan.seed, planned.record.id, kind.name, "question")), *turns)
    sample = Sample(kind, planned.record, turns, plan.vocabulary)
    if prompt_leak(sample):
        return _verdict(("prompt_leak",)), turns
    codes = reasons(sample)
    return _verdict(codes, "filtered" if codes else "accepted") | {"repairs": parsed.repairs}, turns


def _verdict(codes: tuple[str, ...], verdict: str = "quarantined") -> dict[str, Any]:
    return {"verdict": verdict, "reasons": codes}
