"""Images in, instruction data out: ask a teacher about every image, then sort what it wrote.

Two passes over the plan. The first asks for what the store does not have and commits each raw reply; the
second reads every reply back in the plan's order, parses, filters and writes. So the output depends neither
on the order in which replies came nor on how often the run was interrupted, and a better parser or filter
is applied to all replies by running again, which asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console

from vistune.clients.base import Client, Reply, Request
from vistune.errors import VistuneError
from vistune.generate.captions import caption_pairs
from vistune.generate.draw import fraction, pick
from vistune.generate.filters import Sample, reasons
from vistune.generate.output import image_path, replacing, to_json, write_llava
from vistune.generate.parse import ReplyError, parse_answer, parse_dialogue
from vistune.generate.plan import Plan, Planned, make_plan
from vistune.generate.progress import progress
from vistune.generate.report import KindReport, Report, Verdict
from vistune.generate.store import Store
from vistune.records import IMAGE_TOKEN, Conversation, ImageRecord, Turn

DEFAULT_KINDS: Mapping[str, float] = {"conversation": 1.0, "detail": 1.0, "reasoning": 1.0}


@dataclass(frozen=True, slots=True)
class Style:
    """How accepted samples are written: where the image stands in turn 1, and what its path starts from."""

    image_side: Literal["first", "random"] = "first"
    images: Path | None = None


def generate(
    records: Sequence[ImageRecord],
    client: Client,
    out: Path,
    *,
    kinds: Mapping[str, float] = DEFAULT_KINDS,
    seed: int = 0,
    context: Mapping[str, Collection[str]] | None = None,
    concurrency: int = 16,
    captions_per_image: int | None = 1,
    style: Style = Style(),
    console: Console | None = None,
) -> Report:
    """Have `client` write instruction data about `records` into the folder `out`, and report what came of it.

    Writes instruct.json and align.json (stage 1's caption pairs) in LLaVA's format, provenance.jsonl (one line
    a sample), rejected.jsonl (reasons and raw text), report.json, and replies.sqlite, the store of raw
    replies. Run again after an interruption it asks only for what the store does not have.

    `kinds` gives each kind's share of the images, `context` the parts a kind shows in place of its own or the client's
    (`{"conversation": ("captions", "boxes")}`), `concurrency` the most requests at a time. All choices
    depend on `seed` and the image's id alone. Raises VistuneError for what the caller has to put right.
    """
    if concurrency < 1:
        raise VistuneError(f"the concurrency {concurrency} is not positive")
    shown = {kind: parts for kind, parts in client.context.items() if kind in kinds} | dict(context or {})
    plan = make_plan(records, kinds, seed, client.name, shown)
    console = console or Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    with Store(out / "replies.sqlite") as store:
        with progress("asking", len(plan), console) as step:
            sent = asyncio.run(ask(plan, client, store, concurrency, step))
        report = sort_replies(plan, store, out, style)
    report.sent = sent
    pairs = caption_pairs(records, seed, per_image=captions_per_image, images=style.images)
    report.pairs = write_llava(pairs, out / "align.json")
    report.write(out / "report.json")
    return report


async def ask(plan: Plan, client: Client, store: Store, concurrency: int, step: Callable[[], None]) -> int:
    """Get every reply that the store lacks, `concurrency` at a time; returns how many were asked for.

    The workers draw from one iterator, so no task or request exists before it is due. When one fails, no more
    is asked, the requests under way are finished and stored, and the first error is raised.
    """
    todo = _unanswered(plan, store, step)
    sent = 0

    async def work() -> None:
        nonlocal sent
        try:
            for key, request in todo:
                sent += 1
                await store.put(key, await client.complete(request))
                step()
        except Exception:
            todo.close()
            raise

    for outcome in await asyncio.gather(*(work() for _ in range(concurrency)), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return sent


def _unanswered(plan: Plan, store: Store, step: Callable[[], None]) -> Generator[tuple[str, Request]]:
    for planned in plan:
        if planned.request and planned.key not in store:
            yield planned.key, planned.request
        else:
            step()


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
