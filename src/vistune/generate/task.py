"""A run of the stage: all that it is given, its two passes, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from vistune.errors import Stopped, VistuneError
from vistune.formats.conversations import write_conversations
from vistune.generate.amounts import Amount
from vistune.generate.board import Board
from vistune.generate.budget import Budget
from vistune.generate.captions import Balanced, CaptionPairs, SpacyPhrases
from vistune.generate.collect import Collector, schema_note
from vistune.generate.estimate import KindEstimate, estimate
from vistune.generate.kinds import Prompts, brief_questions
from vistune.generate.languages import ENGLISH
from vistune.generate.limits import Limits
from vistune.generate.plan import Plan, make_plan
from vistune.generate.report import Report
from vistune.generate.shard import Shard
from vistune.generate.sort import Sorter, Style
from vistune.generate.store import Store
from vistune.interrupt import StopAfterStep
from vistune.llm.client import Client
from vistune.records import ImageRecord

T = TypeVar("T")
STORE = "replies.sqlite"
_TEACHER = "teacher"
"""The store's note of whose data the folder's files are."""
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
    style: Style
    console: Console
    limits: Limits
    shard: Shard | None = None
    merge: Sequence[Path] = ()
    pilot: int | None = None
    caption_language: str = ENGLISH
    balance: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise VistuneError(f"the concurrency {self.concurrency} is not positive")
        if self.pilot is not None and self.pilot < 1:
            raise VistuneError(f"a pilot of {self.pilot} samples asks nothing")
        if self.balance and self.shard:
            fix = "balance when the shards are merged: run without --shard on the merged folder"
            raise VistuneError("captions are balanced over all images, not over a shard's", where="--shard", fix=fix)
        brief_questions(self.caption_language, self.prompts.folder)  # what is missing is told before anybody is asked
        if self.balance:
            SpacyPhrases(self.balance)

    def run(self) -> Outcome:
        """Ask for what the store lacks and write all that it has. Raises VistuneError for what the caller did wrong."""
        plan = self.plan()
        self.out.mkdir(parents=True, exist_ok=True)
        with Store(self.out / STORE) as store, ExitStack() as stack:
            for folder in self.merge:
                store.merge(folder)
            if self.limits.price:
                store.reprice(self.limits.price)
            self._tell_of_another_teacher(store)
            board, budget = Board(), Budget(store.spent, self.limits, remote=self.client.remote)
            asking = Collector(self.client, store, board, budget, self.limits, self.concurrency, self.pilot)
            signals = StopAfterStep(_NOTICE, asking.signal, same=0.1)  # no launcher passes them on
            with signals.noting(), ThreadPoolExecutor(1) as beside:
                pairs = beside.submit(self._write_pairs, plan)  # most of the time the teacher is waited for
                sorter = _run(lambda: asking.run(plan, self.console, partial(self._sorter, store, stack)))
                if asking.error:
                    sorter.settle_rest()
                    if not sorter.answered:
                        raise asking.error  # nothing has come: the files of an earlier run stay
                report = sorter.write(complete=asking.complete)
                report.pairs, report.sent = pairs.result(), board.sent
                report.write(self.out / "report.json")
                store.set_note(_TEACHER, self.client.name)
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
        longest = self.limits.longest(self.client.remote)
        plan = make_plan(
            self.records, self.kinds, self.seed, self.client.name, shown, self.prompts, longest, self.style.images
        )
        # a quota is one of all images, so they are chosen before they are shared out
        return plan.part(self.shard) if self.shard else plan

    def _tell_of_another_teacher(self, store: Store) -> None:
        before, name = store.note(_TEACHER), self.client.name
        if before not in (None, name):
            told = f"{self.out} has data of the teacher '{before}'; what '{name}' writes now takes its place"
            self.console.print(f"{told} (the replies of '{before}' are kept)", highlight=False, markup=False)

    def _sorter(self, store: Store, stack: ExitStack, plan: Plan) -> Sorter:
        return stack.enter_context(Sorter(plan, store, self.out, self.style))

    def _write_pairs(self, plan: Plan) -> int:
        """Write stage 1's caption pairs; returns how many there are."""
        pairs = CaptionPairs(
            plan.records, self.seed, images=self.style.images,
            language=self.caption_language, folder=self.prompts.folder,
        )  # fmt: skip
        kept = Balanced(pairs, SpacyPhrases(self.balance), self.seed) if self.balance else pairs
        return write_conversations(kept, self.out / "align", self.style.format)


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a notebook too, where this thread's loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()
