"""The first pass: everything that the store lacks is asked for, and each reply is stored before it is looked at.

One loop draws from one iterator, so no task or request exists before it is due. What has to be sent again waits in a
bounded heap, without holding up new work. A client that fails for good, a cap or a signal end the loop; what is under
way then is finished and stored.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vistune.errors import ClientError
from vistune.generate.ahead import Ahead
from vistune.generate.attempts import Answer, Attempt, attempt, read
from vistune.generate.board import Board
from vistune.generate.breaker import Breaker
from vistune.generate.budget import Budget
from vistune.generate.limits import Limits
from vistune.generate.pace import Pace, Ticket
from vistune.generate.plan import Planned
from vistune.generate.price import NOTHING, Cost
from vistune.generate.replies import ParsedReply
from vistune.generate.store import Failure, Store, Stored
from vistune.llm.client import Client, Reply, RequestError
from vistune.scene.english import well_formed

_OVERLOADS = 5
"""A server that is asked too much is not the request's fault: so many times the retries are spent on it."""
_LONGEST_BACKOFF = 60.0
_WAITING = 4
"""So many times the concurrency may wait to be sent again before nothing new is begun."""
_UNTOLD = 1_000
"""So many settled samples may wait to be told of before nothing is sent."""
_SLICE = 0.001
"""Seconds for which other work is done before what has come in is looked at; each look costs a little, too."""
_LOOK_AHEAD = 64
"""So many rows that need no request are passed over before others get their turn."""


_END = "end"


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt to send, how often it was sent, and how many faults were not for asking too much."""

    planned: Planned
    attempt: Attempt
    sent: int = 0
    faults: int = 0


Settled = Callable[[Planned, Answer | None], None]
"""Told of each sample for which nothing more is to come, with its reply where that has just come."""


def todo(
    plan: Iterable[Planned], store: Store, board: Board, settled: Settled, *, teacher: str, attempts: int,
    retry_failed: bool,
) -> Iterator[Job | None]:  # fmt: skip
    """What has no settled reply yet, in the plan's order; None now and then, so that others get their turn."""
    passed, fresh = 0, store.empty
    for planned in plan:
        job = None
        if planned.request and fresh:
            job = Job(planned, attempt(planned, teacher, 1))
        elif planned.request:
            job = _unsettled(planned, teacher, store, attempts, retry_failed)
        if job:
            yield job
            continue
        settled(planned, None)
        board.done += bool(planned.request or planned.reasons)
        passed += 1
        if not passed % _LOOK_AHEAD:
            yield None


def _unsettled(planned: Planned, teacher: str, store: Store, attempts: int, retry_failed: bool) -> Job | None:
    number = 1
    while True:
        one = attempt(planned, teacher, number)
        stored = store.get(one.key)
        if stored is None:
            failure = store.failure(one.key)
            return None if failure and failure.final and not retry_failed else Job(planned, one)
        settled = stored.settled
        if settled is None:  # the run died before anybody looked at the reply
            settled = number >= attempts or isinstance(read(planned.kind, stored.reply), ParsedReply)
            store.settle(one.key, settled)
        number += 1
        if settled or number > attempts:
            return None


class Asker:
    """Sends jobs to the client, as fast as pace, breaker and budget let it."""

    def __init__(
        self, client: Client, store: Store, limits: Limits, most: int, pace: Pace, breaker: Breaker, budget: Budget,
        board: Board, settled: Settled,
    ) -> None:  # fmt: skip
        self._client, self._store, self._limits, self._most = client, store, limits, most
        self._pace, self._breaker, self._budget, self._board = pace, breaker, budget, board
        self._settled = settled
        self._finished: deque[tuple[Planned, Answer | None]] = deque()
        self._jobs: Ahead[Job | str | None] = Ahead((), _END, most)
        self._tries = limits.tries(client.remote)
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: list[tuple[float, int, Job]] = []
        self._held: Job | None = None
        self._number = 0
        self._ended = False
        self._wake: asyncio.Future[None] | None = None
        self._random = random.Random()  # not seeded: shards must not knock at the same moments
        self.error: Exception | None = None
        """What ended the run, if something did."""
        self.out_of_budget = False

    async def run(self, jobs: Iterator[Job | None]) -> None:
        """Send all of `jobs`; returns when nothing is under way any more."""
        self._jobs = Ahead(jobs, _END, self._most)
        while not self._ended:
            in_flight = len(self._tasks)
            wait = max(self._pace.wait(in_flight), self._breaker.wait(in_flight))
            if wait > 0 or len(self._finished) > _UNTOLD:
                await self._sleep(wait if wait > 0 else 0.0)
                continue
            job = self._due() or (None if self._full() else self._jobs.take())
            if isinstance(job, Job):
                await self._start(job)
            elif job is None and not self._full():
                await asyncio.sleep(0)
            elif self._tasks or self._later:
                await self._sleep(self._later[0][0] - self._now() if self._later else math.inf)
            else:
                break
        while self._tasks:
            await asyncio.wait(self._tasks)
        while self._finished:
            self._settled(*self._finished.popleft())

    def stop(self) -> None:
        """Send nothing more; `run` returns when what is under way has ended."""
        self._ended = True
        self._look_again()

    def _due(self) -> Job | None:
        """What was held back for the budget, or is to be sent again by now."""
        job, self._held = self._held, None
        if job is None and self._later and self._later[0][0] <= self._now():
            job = heapq.heappop(self._later)[2]
        return job

    def _full(self) -> bool:
        """Whether so much waits to be sent again that nothing new is begun."""
        return len(self._later) >= _WAITING * self._most

    async def _start(self, job: Job) -> None:
        reserved = self._budget.reserve(job.attempt.request)
        if reserved is not None:
            self._board.sent += 1
            task = asyncio.create_task(self._send(job, reserved, self._pace.sent()))
            self._tasks.add(task)
            self._board.in_flight = len(self._tasks)
            task.add_done_callback(self._end_task)
        elif self._tasks:  # one of them may cost less than was set aside
            self._held = job
            await self._sleep(math.inf)
        else:
            self.out_of_budget = True
            self.stop()

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._board.in_flight = len(self._tasks)
        if not task.cancelled() and (error := task.exception()):
            self.error = self.error or (error if isinstance(error, Exception) else None)
            self.stop()
        self._look_again()

    async def _send(self, job: Job, reserved: Cost, ticket: Ticket) -> None:
        if self._budget.counts:
            await self._store.reserve(job.attempt.key, reserved)
        request = job.attempt.request
        try:
            reply = await self._client.complete(request)
        except RequestError as error:
            await self._fault(replace(job, sent=job.sent + 1), reserved, error, ticket)
        except Exception as error:
            # a ClientError is for good: nothing was answered, and nothing paid for; of others nobody knows
            cost = NOTHING if isinstance(error, ClientError) else self._budget.worst(request)
            self._budget.settle(reserved, cost)
            await self._store.charge(job.attempt.key, cost)
            raise
        else:
            self._pace.accepted(ticket)
            self._breaker.success()
            await self._keep(job, reserved, reply)

    async def _keep(self, job: Job, reserved: Cost, reply: Reply) -> None:
        cost = self._budget.cost(reply.usage, job.attempt.request)
        self._budget.settle(reserved, cost)
        last = job.attempt.number >= self._tries
        key = job.attempt.key
        stored = Stored(reply, job.sent + 1, cost, True if last else None)
        await self._store.put(key, stored)
        said = read(job.planned.kind, reply)
        can_be_read = isinstance(said, ParsedReply)
        if not last:
            self._store.settle(key, can_be_read)
        if last or can_be_read:
            self._board.done += 1
            self._finished.append((job.planned, Answer(job.attempt, stored, said) if can_be_read else None))
            return
        self._board.reasons["unreadable"] += 1
        again = attempt(job.planned, self._client.name, job.attempt.number + 1)
        self._send_later(Job(job.planned, again), 0.0)

    async def _fault(self, job: Job, reserved: Cost, error: RequestError, ticket: Ticket) -> None:
        cost = self._budget.worst(job.attempt.request) if error.billed else NOTHING
        self._budget.settle(reserved, cost)
        self._board.reasons[error.reason] += 1
        if error.overload:
            self._pace.refused(ticket, error.after)
        else:
            job = replace(job, faults=job.faults + 1)
        if error.retry and job.faults <= self._limits.retries and job.sent <= _OVERLOADS * (self._limits.retries + 1):
            if self._budget.counts or cost.tokens:
                await self._store.charge(job.attempt.key, cost)
            self._send_later(job, self._backoff(job, error))
        else:
            failure = Failure(error.reason, well_formed(error.words[:1000]), job.sent, final=not error.retry)
            await self._store.fail(job.attempt.key, failure, cost)
            self._board.done += 1
            self._board.failed += 1
            self._finished.append((job.planned, None))
        if error.retry:
            self._breaker.fault(error)

    def _backoff(self, job: Job, error: RequestError) -> float:
        """Exponential, with full jitter; at least what the server asks for. The pace sees to overload."""
        longest = min(_LONGEST_BACKOFF, 2.0 ** (job.faults if not error.overload else 0))
        return (error.after or 0.0) + self._random.uniform(0, longest)

    def _send_later(self, job: Job, seconds: float) -> None:
        self._number += 1
        heapq.heappush(self._later, (self._now() + seconds, self._number, job))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _sleep(self, seconds: float) -> None:
        """Until a request under way has ended, but no longer than `seconds`; other work is done meanwhile."""
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(seconds, self._look_again) if math.isfinite(seconds) else None
        while not self._wake.done() and self._use_time():
            until = loop.time() + _SLICE
            while loop.time() < until and self._use_time():
                pass
            await asyncio.sleep(0)
        await self._wake
        if timer:
            timer.cancel()
        self._wake = None

    def _use_time(self) -> bool:
        """Make a request ready, or tell of what is settled; False if there is nothing to do."""
        if self._jobs.prepare():
            return True
        if self._finished:
            self._settled(*self._finished.popleft())
            return True
        return False

    def _look_again(self) -> None:
        if self._wake and not self._wake.done():
            self._wake.set_result(None)
