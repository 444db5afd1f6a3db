"""The pace against simulated servers with limits, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from vistune.generate.pace import Pace, Ticket


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
class Accident:
    """No limit, but one refusal `at` seconds."""

    at: float

    def take(self, now: float) -> float | None:
        if now < self.at:
            return None
        self.at = math.inf
        return 1.0


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
    """What came of asking a server: the times of replies and of refusals."""

    server: Bucket | Window | Accident | Chance
    latency: float
    most: int
    hint: str = "none"
    replies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    now: float = 0.0

    def run(self, seconds: float) -> Simulation:
        chance, pace, number, in_flight = random.Random(0), Pace(self.most, lambda: self.now), 0, 0
        events: list[tuple[float, int, Ticket, Any]] = []
        while self.now < seconds:
            wait = pace.wait(in_flight)
            if wait <= 0:
                number, in_flight = number + 1, in_flight + 1
                there = self.now + self.latency * chance.uniform(0.3, 0.5)
                heapq.heappush(events, (there, number, pace.sent(), None))
            elif events and events[0][0] <= self.now + wait:
                self.now, order, ticket, outcome = heapq.heappop(events)
                if outcome is None:
                    refused = self.server.take(self.now)
                    back = self.latency * (chance.uniform(0.3, 1) if refused is None else 0.3)
                    heapq.heappush(events, (self.now + back, order, ticket, [refused]))
                else:
                    in_flight -= 1
                    self._end(pace, ticket, outcome[0])
            else:
                self.now += wait + chance.uniform(0, 0.002)
        return self

    def _end(self, pace: Pace, ticket: Ticket, refused: float | None) -> None:
        if refused is None:
            pace.accepted(ticket)
            self.replies.append(self.now)
        else:
            pace.refused(ticket, HINTS[self.hint](refused))
            self.refusals.append(self.now)

    def between(self, begin: float, end: float) -> tuple[float, float]:
        """Replies a second, and the share of requests that was refused."""
        replies, refusals = (sum(begin < at <= end for at in times) for times in (self.replies, self.refusals))
        return replies / (end - begin), refusals / max(1, replies + refusals)


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize(("latency", "most"), [(0.05, 64), (0.2, 256), (2.0, 256)])
@pytest.mark.parametrize(
    ("server", "warm", "end"),
    [
        (Bucket(50, 1), 30, 180), (Bucket(50, 10), 60, 240), (Bucket(20, 60), 120, 360),
        (Window(50, 1), 30, 180), (Window(20, 60), 180, 420), (Bucket(200, 1), 30, 90),
    ],
    ids=str,
)  # fmt: skip
def test_takes_what_a_limited_server_gives(
    server: Bucket | Window, warm: float, end: float, latency: float, most: int, hint: str
) -> None:
    if most * 0.7 < server.rate * latency * 0.8 * 1.2:
        return  # so few at a time do not reach the limit
    server = type(server)(server.rate, server.seconds)
    rate, refused = Simulation(server, latency, most, hint).run(end).between(warm, end)
    assert rate >= 0.9 * server.rate
    assert refused <= 0.05


@pytest.mark.parametrize(("latency", "most"), [(0.05, 256), (0.2, 64), (2.0, 64)])
def test_one_refusal_by_accident_costs_nothing_for_long(latency: float, most: int) -> None:
    simulation = Simulation(Accident(at=30), latency, most, "rounded").run(60)
    before, _ = simulation.between(10, 30)
    after, _ = simulation.between(40, 60)
    assert len(simulation.refusals) == 1
    assert after >= 0.9 * before


@pytest.mark.parametrize("hint", ["none", "exact"])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
@pytest.mark.parametrize(("latency", "most"), [(0.002, 1), (0.05, 64), (0.2, 256), (2.0, 64)])
def test_refusals_by_chance_do_not_slow_it_down_for_good(latency: float, most: int, share: float, hint: str) -> None:
    free, _ = Simulation(Chance(0.0), latency, most, hint).run(20).between(5, 20)
    rate, _ = Simulation(Chance(share), latency, most, hint).run(40).between(15, 40)
    assert rate >= 0.65 * free


def test_without_a_refusal_there_is_no_rate() -> None:
    pace = Pace(64, lambda: 0.0)
    for in_flight in range(64):
        assert pace.wait(in_flight) == 0
        pace.sent()
    assert math.isinf(pace.wait(64))
    assert math.isinf(pace.rate())


def test_a_long_wait_is_kept_to_by_all() -> None:
    now = [0.0]
    pace = Pace(8, lambda: now[0])
    tickets = [pace.sent() for _ in range(4)]
    now[0] = 1.0
    pace.accepted(tickets[0])
    pace.refused(tickets[1], 20.0)
    assert pace.wait(0) == 20
    pace.refused(tickets[2], 30.0)
    assert pace.wait(0) == 30


def test_pauses_grow_while_all_is_refused() -> None:
    now = [0.0]
    pace = Pace(8, lambda: now[0])
    pauses = []
    for _ in range(30):
        pace.refused(pace.sent())
        pauses.append(pace.wait(0))
        assert math.isinf(pace.wait(1)) or len(pauses) == 1
        now[0] += pauses[-1]
    assert [round(pause, 6) for pause in pauses] == sorted(round(pause, 6) for pause in pauses)
    assert pauses[0] < 1
    assert pauses[-1] == pytest.approx(60)
