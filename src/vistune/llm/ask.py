"""A settled reply for each of many requests, stored: retries, rate limit, budget. No stored reply is requested again.

Its use, with a teacher or a judge:

    with Store(folder / FILE) as store:
        budget = Budget(store.spent, limits, price, remote=client.remote)
        async with Asker(client, store, limits, budget, Progress()) as asker:
            await asker.ask(requests, accept)
        reply = store.get(request.attempt(1).key(client.name))  # further attempts follow one that is not acceptable

Each request has a coroutine: it looks in the store, else sends, commits the raw reply, has it checked, and tries again
if the reply is not usable. A failure for good, a cap or `stop` end the run; requests in flight are then finished and
their replies stored.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeVar

from vistune.errors import ClientError
from vistune.llm.budget import Budget, Cost, Limits
from vistune.llm.client import Client, Reply, Request, RequestError
from vistune.llm.progress import Progress
from vistune.llm.rate_limit import RateLimit
from vistune.llm.reply_rows import Failure, StoredReply
from vistune.llm.store import Store
from vistune.scene.english import well_formed

T = TypeVar("T")
Accept = Callable[[Request, Reply], bool]
"""Whether a reply is usable, so that no other attempt at its request is needed."""

_UNDER_WAY = 4
"""Requests under way, as a multiple of the concurrency, so that those waiting for a retry hold up no others."""
_REFUSALS = 5
"""Refusals for overload are not the request's fault: with them it may be sent this multiple of the retries."""
_MAX_BACKOFF = 60.0


class Asker(AbstractAsyncContextManager["Asker"]):
    """Sends requests to `client` and stores the replies in `store`, within `limits` and `budget`.

    Within `async with`, the client is opened before the first request is sent: a local model is not loaded in vain.

    Afterwards `error` is what ended the run early, `out_of_budget` whether a cap did, `stopped` whether anything did.
    """

    def __init__(self, client: Client, store: Store, limits: Limits, budget: Budget, progress: Progress) -> None:
        self._client, self._store, self._limits = client, store, limits
        self._budget, self._progress = budget, progress
        self._rate_limit = RateLimit(limits.concurrency, limits.patience, time.monotonic)
        self._turn = asyncio.Lock()  # one request at a time waits for its slot, the others for the lock
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self._opened = False
        self._random = random.Random()  # not seeded: several machines must not send at the same moments
        self.error: Exception | None = None
        self.out_of_budget = False
        progress.notes = lambda: (str(budget), str(self._rate_limit))

    async def __aexit__(self, *error: object) -> None:
        if self._opened:
            await self._client.__aexit__(*error)

    @property
    def stopped(self) -> bool:
        """Whether the run ends before all requests are settled."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Send nothing more; requests in flight end by themselves. To be called in the event loop's thread."""
        self._stopping.set()
        self._changed.set()

    async def ask(self, requests: Iterable[Request], accept: Accept) -> None:
        """Settle all `requests`: returns when no request is in flight any more. Raises only what is a bug."""
        source = iter(requests)
        await asyncio.gather(*(self._work(source, accept) for _ in range(_UNDER_WAY * self._limits.concurrency)))
        if self.error and not isinstance(self.error, ClientError):
            raise self.error

    async def supports_schema(self, largest: Request | None) -> bool | None:
        """Whether the client's replies keep to a JSON schema; requested once per store. None after `stop`.

        Raises ClientError if there is no reply, or if the caps do not allow a request (`largest` is one of those that
        are to follow).
        """
        note = f"schema:{self._client.name}"
        if (known := self._store.note(note)) is not None:
            return known == "1"
        await self._open_client()
        probe = asyncio.create_task(self._client.supports_schema(lambda request: self._send_probe(request, largest)))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((probe, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not probe.done():
            probe.cancel()
            return None
        try:
            supported = probe.result()
        except RequestError as error:
            fix = "check the server and run the same command again"
            raise ClientError(f"no reply from '{self._client.name}': {error}", fix=fix) from None
        self._store.set_note(note, "1" if supported else "0")
        return supported

    async def _send_probe(self, request: Request, largest: Request | None) -> Reply:
        reserved = self._budget.reserve(request)
        if reserved is None:
            costs = [self._budget.worst(one) for one in (request, largest) if one]
            cost = max(costs, key=lambda cost: (cost.pico, cost.tokens))
            raise ClientError(f"the cap does not allow even one request, which may cost {cost}", fix="raise the cap")
        reply, _ = await self._complete(request, request.key(self._client.name), reserved)
        return reply

    async def _open_client(self) -> None:
        if not self._opened:
            await self._client.__aenter__()
            self._opened = True

    async def _work(self, source: Iterator[Request], accept: Accept) -> None:
        try:
            while not self.stopped and (request := next(source, None)):
                await self._settle(request, accept)
                await asyncio.sleep(0)  # stored replies: other tasks get their turn
        except Exception as error:
            self.error = self.error or error
            self.stop()

    async def _settle(self, request: Request, accept: Accept) -> None:
        """Have the request's attempts sent until a reply is acceptable or no attempt is left."""
        for number in range(1, self._limits.attempts + 1):
            attempt = request.attempt(number)
            key = attempt.key(self._client.name)
            stored = self._store.get(key)
            if stored is None:
                failure = self._store.failure(key)
                if failure and failure.final and not self._limits.retry_failed:
                    break
                stored = await self._send(attempt, key)
                if self.stopped and stored is None:
                    return
            if stored is None or stored.settled:
                break
            if stored.settled is None:  # also of a run that was killed before it looked at the reply
                settled = number == self._limits.attempts or accept(attempt, stored.reply)
                self._store.settle(key, settled)
                if settled:
                    break
                self._progress.reasons["unreadable"] += 1
        self._progress.done += 1

    async def _send(self, request: Request, key: str) -> StoredReply | None:
        """The reply, committed; None if the request is given up or the run stops."""
        faults = tries = 0
        while (reserved := await self._slot(request)) is not None:
            tries += 1
            self._progress.sent += 1
            sent = self._rate_limit.sent()
            try:
                reply, cost = await self._complete(request, key, reserved)
                self._rate_limit.accepted(sent)
                stored = StoredReply(reply, cost)
                await self._store.put(key, stored)
                return stored
            except RequestError as error:
                fault = error
            finally:
                self._progress.in_flight -= 1
                self._changed.set()
            if fault.overload:
                self._rate_limit.refused(sent, fault.retry_after)
            faults += not fault.overload
            if not await self._may_retry(key, fault, tries, faults):
                return None
            await self._sleep(fault, faults)
        return None

    async def _complete(self, request: Request, key: str, reserved: Cost) -> tuple[Reply, Cost]:
        """Send once: the reply and its cost, which replaces what was reserved whether there is a reply or not."""
        if self._budget.enabled:
            await self._store.reserve(key, reserved)
        cost = reserved  # charged if the client fails in any other way than it may
        try:
            reply = await self._client.complete(request)
            cost = self._budget.cost(reply.usage, request)
            return replace(reply, text=well_formed(reply.text), model=well_formed(reply.model)), cost
        except (RequestError, ClientError) as error:
            billed = isinstance(error, RequestError) and error.billed
            cost = self._budget.worst(request) if billed else Cost()
            raise
        finally:
            self._budget.settle(reserved, cost)
            self._store.charge(key, cost)

    async def _may_retry(self, key: str, fault: RequestError, tries: int, faults: int) -> bool:
        """Count a fault; whether the request may be sent again. Raises ClientError if the run gives up."""
        self._progress.reasons[fault.reason] += 1
        retries = self._limits.retries
        again = fault.retry and faults <= retries and tries <= _REFUSALS * (retries + 1)
        if not again:
            failure = Failure(fault.reason, well_formed(fault.message[:1000]), tries, final=not fault.retry)
            await self._store.fail(key, failure)
        if fault.retry:
            self._rate_limit.fault(fault)
        return again

    async def _slot(self, request: Request) -> Cost | None:
        """Wait until rate limit and budget allow one more request in flight; its reserved cost, None if all stops."""
        async with self._turn:
            await self._open_client()
            while not self.stopped:
                self._changed.clear()
                wait = self._rate_limit.wait(self._progress.in_flight)
                if wait <= 0:
                    reserved = self._budget.reserve(request)
                    if reserved is not None:
                        self._progress.in_flight += 1
                        return reserved
                    if not self._progress.in_flight:  # otherwise one in flight may cost less than was reserved
                        self.out_of_budget = True
                        self.stop()
                    wait = math.inf
                await _wait(self._changed, wait)
        return None

    async def _sleep(self, fault: RequestError, faults: int) -> None:
        """Exponential backoff with full jitter, after the wait that the server asks for."""
        longest = min(_MAX_BACKOFF, 2.0 ** (0 if fault.overload else faults))
        await _wait(self._stopping, (fault.retry_after or 0.0) + self._random.uniform(0, longest))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, but at most `seconds`."""
    try:
        async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
            await event.wait()
    except TimeoutError:
        pass


def in_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also in a notebook, where this thread's event loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main).result()
