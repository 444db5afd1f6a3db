"""The first pass of a run: which format the teacher keeps to, what is still to be asked, and asking it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain

from rich.console import Console

from vistune.errors import ClientError
from vistune.generate.amounts import Lowest
from vistune.generate.ask import Asker, Job, Settled, todo
from vistune.generate.board import Board
from vistune.generate.breaker import Breaker
from vistune.generate.budget import Budget
from vistune.generate.estimate import dearest
from vistune.generate.limits import Limits
from vistune.generate.pace import Pace
from vistune.generate.plan import Plan, Planned
from vistune.generate.price import NOTHING
from vistune.generate.sort import Sorter
from vistune.generate.store import Store
from vistune.llm.client import Client, Reply, Request, RequestError
from vistune.seeded import fraction


def schema_note(client: Client) -> str:
    """The store's note of whether the client keeps to schemas: it is asked once per store."""
    return f"schema:{client.name}"


class Collector:
    """Asks for what the store lacks; afterwards `error` and `out_of_budget` say what ended it early, if something did.

    With `pilot`, only so many samples, drawn by hash, are asked for.
    """

    def __init__(
        self, client: Client, store: Store, board: Board, budget: Budget, limits: Limits, most: int, pilot: int | None
    ) -> None:
        self._client, self._store, self._board, self._budget = client, store, board, budget
        self._limits, self._most, self._pilot = limits, most, pilot
        self._asker: Asker | None = None
        self._probing: asyncio.Task[bool] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = self._opened = False
        self.error: Exception | None = None
        self.out_of_budget = False
        self.complete = False
        """Whether everything was asked for, and nothing more is to come."""

    def signal(self, _: int) -> None:
        """From a signal's handler: send nothing more."""
        self._stopped = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._probing:
            self._probing.cancel()
        if self._asker:
            self._asker.stop()

    async def run(self, plan: Plan, console: Console, sorter: Callable[[Plan], Sorter]) -> Sorter:
        """Ask, and have what is settled judged on the way; returns what `sorter` made of the plan.

        The plan it is given is in the format that the client keeps to.
        """
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            try:
                known = self._store.note(schema_note(self._client))
                if known is None and not self._stopped:
                    await self._open(stack)
                    known = await self._probe(plan)
                plan = plan.structured() if known == "1" else plan
            except ClientError as error:
                self.error = error
            sorting = sorter(plan)
            if self.error is None and known is not None:
                try:
                    await self._collect(plan, sorting, stack, console)
                except ClientError as error:
                    self.error = error
        return sorting

    async def _collect(self, plan: Plan, sorting: Sorter, stack: AsyncExitStack, console: Console) -> None:
        jobs = self._jobs(plan, sorting.settled)
        first = next((job for job in jobs if job), None)
        if first:
            await self._open(stack)
            await self._ask(chain([first], jobs), sorting.settled, console)
        ended = self._stopped or self.out_of_budget or self.error
        self.complete = self._pilot is None and not ended

    async def _open(self, stack: AsyncExitStack) -> None:
        """Open the client, once; a local model is not loaded for nothing."""
        if not self._opened:
            await stack.enter_async_context(self._client)
            self._opened = True

    async def _ask(self, jobs: Iterator[Job | None], settled: Settled, console: Console) -> None:
        clock = time.monotonic
        pace, breaker = Pace(self._most, clock), Breaker(self._limits.patience, clock)
        self._board.spent = self._budget.told
        self._board.state = lambda: _state(pace, breaker)
        self._asker = Asker(
            self._client, self._store, self._limits, self._most, pace, breaker, self._budget, self._board, settled
        )
        if self._stopped:
            return
        async with self._board.shown(console):
            await self._asker.run(jobs)
        self.out_of_budget = self._asker.out_of_budget
        if isinstance(self._asker.error, ClientError):
            self.error = self._asker.error
        elif self._asker.error:
            raise self._asker.error

    async def _probe(self, plan: Plan) -> str | None:
        """Whether the client keeps to schemas, as the store notes it; None if a signal came first."""
        self._probing = asyncio.create_task(self._client.keeps_schema(partial(self._paid, plan)))
        try:
            known = "1" if await self._probing else "0"
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return None
        except RequestError as error:
            fix = "see to the server and run the same command again"
            raise ClientError(f"the teacher does not answer: {error}", fix=fix) from None
        self._store.set_note(schema_note(self._client), known)
        return known

    async def _paid(self, plan: Plan, request: Request) -> Reply:
        """The reply to a request that is no sample's of the plan; it counts in the spending like any other."""
        key, reserved = request.key(self._client.name), self._budget.reserve(request)
        if reserved is None:
            most = dearest(plan, self._budget, request)
            raise ClientError(f"the cap does not allow even one question: one may cost {most}", fix="raise it")
        cost = self._budget.worst(request)
        await self._store.reserve(key, cost)
        try:
            reply = await self._client.complete(request)
            cost = self._budget.cost(reply.usage, request)
        except RequestError as error:
            cost = cost if error.billed else NOTHING
            raise
        except ClientError:
            cost = NOTHING
            raise
        finally:
            self._budget.settle(reserved, cost)
            await self._store.charge(key, cost)
        return reply

    def _jobs(self, plan: Plan, settled: Settled) -> Iterator[Job | None]:
        self._board.total = plan.total
        attempts, again = self._limits.tries(self._client.remote), self._limits.retry_failed
        left = partial(
            todo, store=self._store, board=self._board, settled=settled, teacher=plan.teacher, attempts=attempts,
            retry_failed=again,
        )  # fmt: skip
        if self._pilot is None:
            return left(plan)
        lowest = Lowest(self._pilot)
        for planned in plan:
            if planned.request:
                lowest.add(_draw(plan, planned))
        self._board.total, bound = min(self._pilot, lowest.seen), lowest.bound() if lowest.seen else 0.0
        return left(planned for planned in plan if _draw(plan, planned) < bound)


def _draw(plan: Plan, planned: Planned) -> float:
    return fraction(plan.seed, planned.record.id, planned.kind.name, "pilot")


def _state(pace: Pace, breaker: Breaker) -> str:
    if breaker.open:
        return "the server gives nothing but faults: waiting, then asking one at a time"
    rate = pace.rate()
    return f"slowed to {rate:,.1f} requests a second" if rate < 10**6 else ""
