"""A run of the stage: all that it is given, its two passes, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from vistune.clients.base import Client
from vistune.errors import Stopped, VistuneError
from vistune.generate.amounts import Amount
from vistune.generate.board import Board
from vistune.generate.budget import Budget
from vistune.generate.captions import caption_pairs
from vistune.generate.collect import Collector, schema_note
from vistune.generate.estimate import KindEstimate, estimate
from vistune.generate.kinds import Prompts
from vistune.generate.limits import Limits
from vistune.generate.output import write_llava
from vistune.generate.plan import Plan, make_plan
from vistune.generate.report import Report
from vistune.generate.shard import Part, Shard
from vistune.generate.sort import Style, sort_replies
from vistune.generate.store import Store
from vistune.records import ImageRecord
from vistune.stop import StopAfterStep

T = TypeVar("T")
STORE = "replies.sqlite"
_NOTICE = "finishing what is under way, then writing it; a second signal stops at once"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: its report, what ended it early (raise it), and the requests sent again or given up."""

    report: Report
    ended: BaseException | None = None
    out_of_budget: bool = False
    spent: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What `generate` is given; see there."""

    records: Iterable[ImageRecord]
    client: Client
    out: Path
    kinds: Mapping[str, Amount]
    prompts: Prompts
    seed: int
    context: Mapping[str, Collection[str]]
    concurrency: int
    captions_per_image: int | None
    style: Style
    console: Console
    limits: Limits
    shard: Shard | None = None
    merge: Sequence[Path] = ()
    pilot: int | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise VistuneError(f"the concurrency {self.concurrency} is not positive")

    def run(self) -> Outcome:
        """Ask for what the store lacks and write all that it has. Raises VistuneError for what the caller did wrong."""
        plan = self.plan()
        self.out.mkdir(parents=True, exist_ok=True)
        with Store(self.out / STORE) as store:
            for folder in self.merge:
                store.merge(folder)
            board, budget = Board(), Budget(store.spent, self.limits, remote=self.client.remote)
            asking = Collector(self.client, store, board, budget, self.limits, self.concurrency, self.pilot)
            signals = StopAfterStep(_NOTICE, asking.signal)
            with signals.noting():
                plan = _run(lambda: asking.run(plan, self.console))
                report = self._write(plan, store)
        report.sent = board.sent
        ended = Stopped(signals.noted) if signals.noted else asking.error
        return Outcome(report, ended, asking.out_of_budget, budget.told(), dict(board.reasons))

    def estimate(self) -> list[KindEstimate]:
        """What it takes, from what is stored, without asking anybody."""
        plan = self.plan()
        if not (self.out / STORE).exists():
            return estimate(plan, None)
        with Store(self.out / STORE) as store:
            return estimate(plan.structured() if store.note(schema_note(self.client)) == "1" else plan, store)

    def plan(self) -> Plan:
        """The plan, for replies in the text format."""
        shown = {kind: parts for kind, parts in self.client.context.items() if kind in self.kinds} | dict(self.context)
        records = Part(self.records, self.shard) if self.shard else self.records
        longest = self.limits.longest(self.client.remote)
        return make_plan(records, self.kinds, self.seed, self.client.name, shown, self.prompts, longest)

    def _write(self, plan: Plan, store: Store) -> Report:
        report = sort_replies(plan, store, self.out, self.style)
        pairs = caption_pairs(plan.records, self.seed, per_image=self.captions_per_image, images=self.style.images)
        report.pairs = write_llava(pairs, self.out / "align.json")
        report.write(self.out / "report.json")
        return report


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a notebook too, where this thread's loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()
