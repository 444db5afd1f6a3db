"""The rate limit against simulated servers, in virtual time.

Not promised, and so not tested: buckets and windows much shorter than the latency, windows of a minute where the server
does not say when they end, and more than 2 % of refusals that have nothing to do with the rate.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from vistune.errors import ClientError
from vistune.llm.client import RequestError
from vistune.llm.rate_limit import START, RateLimit


@dataclass
class Bucket:
    """A token bucket: `rate` a second, `seconds` worth of them at most."""

    rate: float
    seconds: float
    at: float = 0.0
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.most = self.rate * self.seconds

    def take(self, now: float) -> float | None:
        """None if the request is taken, else the seconds until one would be."""
        self.tokens, self.at = min(self.most, self.tokens + (now - self.at) * self.rate), now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return None


@dataclass
class Window:
    """`rate` times `seconds` requests in each window of so many seconds."""

    rate: float
    seconds: float
    index: int = -1
    taken: int = 0

    def take(self, now: float) -> float | None:
        if (index := int(now // self.seconds)) != self.index:
            self.index, self.taken = index, 0
        if self.taken >= self.rate * self.seconds:
            return (index + 1) * self.seconds - now
        self.taken += 1
        return None


@dataclass
class Chance:
    """No limit, but a `share` of the requests is refused all the same."""

    share: float
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def take(self, _now: float) -> float | None:
        return 1.0 if self.chance.random() < self.share else None


HINTS: dict[str, Callable[[float], float | None]] = {
    "none": lambda _: None,
    "exact": lambda seconds: seconds,
    "rounded": math.ceil,
}


@dataclass
class Simulation:
    """Requests to a server: the times of its replies and refusals."""

    server: Bucket | Window | Chance
    latency: float
    most: int
    hint: str = "none"
    replies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    now: float = 0.0

    def run(self, seconds: float) -> Simulation:
        chance, limit, number, in_flight = random.Random(0), RateLimit(self.most, 1e9, lambda: self.now), 0, 0
        events: list[tuple[float, int, float, Any]] = []
        while self.now < seconds:
            wait = limit.wait(in_flight)
            if wait <= 0:
                number, in_flight = number + 1, in_flight + 1
                there = self.now + self.latency * chance.uniform(0.3, 0.5)
                heapq.heappush(events, (there, number, limit.sent(), None))
            elif events and events[0][0] <= self.now + wait:
                self.now, order, ticket, outcome = heapq.heappop(events)
                if outcome is None:
                    refused = self.server.take(self.now)
                    back = self.latency * (chance.uniform(0.3, 1) if refused is None else 0.3)
                    heapq.heappush(events, (self.now + back, order, ticket, [refused]))
                else:
                    in_flight -= 1
                    self._end(limit, ticket, outcome[0])
            else:
                self.now += wait + chance.uniform(0, 0.002)
        return self

    def _end(self, limit: RateLimit, ticket: float, refused: float | None) -> None:
        if refused is None:
            limit.accepted(ticket)
            self.replies.append(self.now)
        else:
            limit.refused(ticket, HINTS[self.hint](refused))
            self.refusals.append(self.now)

    def between(self, begin: float, end: float) -> tuple[float, float]:
        """Replies per second, and the share of refused requests."""
        replies, refusals = (sum(begin < at <= end for at in times) for times in (self.replies, self.refusals))
        return replies / (end - begin), refusals / max(1, replies + refusals)


LIMITED = [
    (Bucket(50, 1), 30, 180), (Bucket(50, 10), 60, 240), (Bucket(20, 60), 120, 360), (Window(50, 1), 30, 180),
    (Bucket(200, 1), 30, 90),
]  # fmt: skip


@pytest.mark.parametrize("hint", ["none", "rounded"])
@pytest.mark.parametrize(("latency", "most"), [(0.05, 64), (2.0, 256)])
@pytest.mark.parametrize(("server", "warm", "end"), LIMITED, ids=lambda value: f"{value}")
def test_reaches_the_limit_of_a_server_with_few_refusals(
    server: Bucket | Window, warm: float, end: float, latency: float, most: int, hint: str
) -> None:
    if most < server.rate * latency * 1.5:
        pytest.skip("so few requests in flight do not reach the limit")
    server = type(server)(server.rate, server.seconds)
    rate, refused = Simulation(server, latency, most, hint).run(end).between(warm, end)
    assert rate >= 0.9 * server.rate
    assert refused <= 0.055


def test_uses_each_window_of_a_minute_where_the_server_says_when_it_ends() -> None:
    rate, refused = Simulation(Window(20, 60), 0.05, 64, "exact").run(420).between(180, 420)
    assert rate >= 0.95 * 20
    assert refused <= 0.055


@pytest.mark.parametrize(("latency", "most"), [(0.05, 64), (2.0, 64)])
def test_few_refusals_by_chance_do_not_slow_it_down(latency: float, most: int) -> None:
    free, _ = Simulation(Chance(0.0), latency, most).run(20).between(5, 20)
    for share in (0.01, 0.02):
        rate, _ = Simulation(Chance(share), latency, most).run(40).between(15, 40)
        assert rate >= 0.65 * free


def test_starts_slowly_and_grows_with_every_reply() -> None:
    limit, in_flight = RateLimit(64, 600, lambda: 0.0), 0
    while limit.wait(in_flight) == 0:
        limit.sent()
        in_flight += 1
    assert in_flight == START < 64
    for _ in range(64):
        limit.accepted(0.0)
    assert limit.wait(63) == 0
    assert math.isinf(limit.wait(64))
    assert math.isinf(limit.rate)


def test_all_requests_keep_a_long_wait() -> None:
    now = [0.0]
    limit = RateLimit(8, 600, lambda: now[0])
    sent = [limit.sent() for _ in range(4)]
    now[0] = 1.0
    limit.accepted(sent[0])
    limit.refused(sent[1], 20.0)
    assert limit.wait(0) == 20
    limit.refused(sent[2], 30.0)
    assert limit.wait(0) == 30


def test_pauses_grow_while_everything_is_refused_and_one_request_probes() -> None:
    now = [0.0]
    limit = RateLimit(8, 600, lambda: now[0])
    for _ in range(3):
        limit.refused(limit.sent())
    pauses = []
    for _ in range(12):
        pauses.append(limit.wait(0))
        assert math.isinf(limit.wait(1))
        now[0] += pauses[-1]
        limit.refused(limit.sent())
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == pytest.approx(60)


def test_gives_up_when_the_patience_is_at_its_end() -> None:
    now = [0.0]
    limit = RateLimit(8, 100, lambda: now[0])
    for _ in range(20):
        limit.fault(RequestError("http_500"))
    assert math.isinf(limit.wait(1))  # the server counts as down: one request probes it
    limit.accepted(limit.sent())
    assert limit.wait(1) == 0
    for now[0] in range(10, 20):
        limit.fault(RequestError("http_500"))
    now[0] = 200.0
    limit.fault(RequestError("http_500"))
    with pytest.raises(ClientError, match=r"no reply for 3 minutes, only faults \(http_500 12\); the last message: x"):
        limit.fault(RequestError("http_500", "x"))


def test_a_wait_longer_than_the_patience_ends_the_run() -> None:
    limit = RateLimit(8, 600, lambda: 0.0)
    with pytest.raises(ClientError, match="asks for a wait of 1,440 minutes"):
        limit.fault(RequestError("rate_limited", overload=True, retry_after=86_400))
