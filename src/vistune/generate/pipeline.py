"""Images in, instruction data out: ask a teacher about every image, then sort what it wrote.

Two passes over the plan. The first asks for what the store does not have and commits each raw reply; the
second reads every reply back in the plan's order, parses, filters and writes. So the output depends neither
on the order in which replies came nor on how often the run was interrupted, and a better parser or filter
is applied to all replies by running again, which asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from pathlib import Path

from rich.console import Console

from vistune.clients.base import Client, Request
from vistune.errors import VistuneError
from vistune.generate.amounts import Amount
from vistune.generate.captions import caption_pairs
from vistune.generate.kinds import Prompts
from vistune.generate.output import write_llava
from vistune.generate.plan import Plan, make_plan
from vistune.generate.progress import progress
from vistune.generate.report import Report
from vistune.generate.sort import Style, sort_replies
from vistune.generate.store import Store
from vistune.records import ImageRecord

DEFAULT_KINDS: Mapping[str, Amount] = {"conversation": 1.0, "detail": 1.0, "reasoning": 1.0}


def generate(
    records: Iterable[ImageRecord],
    client: Client,
    out: Path,
    *,
    kinds: Mapping[str, Amount] = DEFAULT_KINDS,
    prompts: Prompts | None = None,
    seed: int = 0,
    context: Mapping[str, Collection[str]] | None = None,
    concurrency: int = 16,
    captions_per_image: int | None = 1,
    style: Style | None = None,
    console: Console | None = None,
) -> Report:
    """Have `client` write instruction data about `records` into the folder `out`, and report what came of it.

    Writes instruct.json and align.json (stage 1's caption pairs) in LLaVA's format, provenance.jsonl (one line
    a sample), rejected.jsonl (reasons and raw text), report.json, and replies.sqlite, the store of raw
    replies. Run again after an interruption it asks only for what the store does not have.

    `kinds` gives each kind's share of the images or a `Quota` of them, `prompts` where kinds of the user's own come
    from and the language, `context` the parts a kind shows in place of its own or the client's
    (`{"conversation": ("captions", "boxes")}`), `concurrency` the most requests at a time. All choices
    depend on `seed` and the image's id alone. Raises VistuneError for what the caller has to put right.
    """
    if concurrency < 1:
        raise VistuneError(f"the concurrency {concurrency} is not positive")
    shown = {kind: parts for kind, parts in client.context.items() if kind in kinds} | dict(context or {})
    plan = make_plan(records, kinds, seed, client.name, shown, prompts)
    console, style = console or Console(stderr=True), style or Style()
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
