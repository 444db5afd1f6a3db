"""How fast a teacher is asked: all at once until it says that this is too much, then as fast as it takes.

The first refusal ends the time without a rate. Each that counts (one a round trip) tells two things: the rate it came
at was too much, and what was accepted since the last one is what the server takes, or less where it had nothing to do.
The next rate lies between the two and grows slowly until the next refusal. After a refusal all wait for a moment only,
whatever the server says, for many round up to a second or tell when a bucket is full; a wait of two seconds or more,
and any while all that is sent is refused, is kept to.

Refusals that come by chance, from a gateway that drops one request in twenty, say nothing about the rate: where about
as many are refused at half of a rate, the rate is taken up again and they are put up with, until clearly more come.

In simulation (tests/generate/test_pace.py) it reaches 90 % of the limit with at most 5 % refused at token buckets of
1 to 60 s and fixed windows of 1 and 60 s, at latencies of up to 2 s. Outside of these tests it did less at latencies
whose spread is wider than a bucket of 0.1 s (26 to 74 % of the limit, at 8 s up to 21 % refused) or than a window of
1 s (86 to 90 %). Where a fifth or more is refused by chance it may go slower by far than it need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_BELOW, _ABOVE = 0.98, 1.03
"""The part of the ceiling at which the rate goes on; what the ceiling may be beyond what was accepted."""
_SUDDEN, _GENTLE = 0.5, 0.7
"""The least part that is left of a rate after a refusal, and after one before `_ENOUGH` requests were accepted."""
_ENOUGH = 10
_FEW = 0.02
"""The share of refusals that does no harm."""
_STEP, _WIDE_STEP, _DOUBLES = 0.01, 0.1, 6.0
"""The part of the ceiling by which the rate grows, more where little is known; seconds until that doubles, or more."""
_LATE = 0.02
"""Seconds by which a sender that woke up late may catch up."""
_PAUSE, _GROWTH, _LONGEST = 0.25, 1.3, 60.0
"""Seconds of the pause after a refusal, its growth while all is refused, and the longest."""
_LONG = 2.0
"""Seconds of a pause that are no bucket's but those until a window's end."""
_SLOWER, _NO_LESS, _NOISE = 0.5, 0.5, 0.25
"""If at this part of a rate no less than this part of the share of refusals still comes, and that is at most so much,
they come by chance: asking slowly does not help."""
_OUTCOMES, _MORE, _SLACK = 200, 2.5, 0.1
"""So many last requests tell the share of refusals; what is more than chance, as a multiple and in addition."""
_MEMORY, _DOUBT = 30.0, 40.0
"""Seconds for which a cycle is remembered, and for which it is not chance if it once was not."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was sent: when, how many were sent before it, and after how many refusals that counted."""

    at: float
    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Course:
    """The rate over time: from `below` the ceiling on, and `step` of it more each time that `doubles` seconds pass."""

    since: float
    ceiling: float
    doubles: float = _DOUBLES
    step: float = _STEP
    below: float = _BELOW

    def rate(self, at: float) -> float:
        times = max(0.0, at - self.since) / self.doubles
        return self.ceiling * (self.below + self.step * (math.pow(2, min(60.0, times)) - 1))


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What went before a refusal that was noticed at `end`, `late` seconds after it was sent at the rate `rate`.

    `accepted` requests were sent since `begin`; `share` of all was refused.
    """

    begin: float
    end: float
    late: float
    rate: float
    accepted: int
    share: float

    def ceiling(self, resume: float) -> float:
        """Between what was accepted and what was too much, where few were refused in the middle of the two."""
        lately = self.accepted / max(resume - self.begin - self.late, 0.1)
        if self.share < _FEW:
            lately = max(lately, math.sqrt(lately * self.rate))
        least = _SUDDEN if self.accepted >= _ENOUGH else _GENTLE
        return min(self.rate, max((_ABOVE + 1 / self.accepted) * lately, least * self.rate))


class Pace:
    """Says when the next request may be sent, for at most `most` at a time. `clock` gives seconds."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._resume = self._next = self._begin = now = clock()
        self._course = _Course(now, math.inf)
        self._cycle = _Cycle(now, now, 0.0, math.inf, 1, 0.0)
        self._number = self._epoch = self._in_vain = 0
        self._first = self._refused = 0  # of the cycle
        self._mark, self._balance = 0, math.inf  # accepted less refused of those sent after the last refusal
        self._latency = 0.0
        self._windowed = False
        self._cycles: list[_Cycle] = []  # of the last seconds
        self._doubted = -math.inf  # until then they do not come by chance
        self._share = self._noise = 0.0  # of refusals, lately; and what of them comes by chance

    def rate(self) -> float:
        """The requests a second that may be sent now; infinite as long as nothing was refused."""
        return self._course.rate(self._clock())

    def wait(self, in_flight: int) -> float:
        """The seconds before a request may be sent; infinite where one of those in flight has to end first."""
        if in_flight >= self._room():
            return math.inf
        return max(0.0, self._resume - self._clock(), self._next - self._clock())

    def sent(self) -> Ticket:
        """A request is being sent; whoever tells about it later needs the ticket."""
        now, rate = self._clock(), self.rate()
        if math.isfinite(rate):
            self._next = max(self._next, now - _LATE) + 1 / rate
        self._number += 1
        return Ticket(now, self._number - 1, self._epoch)

    def accepted(self, ticket: Ticket) -> None:
        """The request got its reply."""
        self._share -= self._share / _OUTCOMES
        if ticket.epoch == self._epoch:
            self._balance, self._in_vain = math.inf, 0
        elif ticket.number > self._mark:
            self._balance += 1
        latency = self._clock() - ticket.at
        self._latency = 0.9 * self._latency + 0.1 * latency if self._latency else latency

    def refused(self, ticket: Ticket, after: float | None = None) -> None:
        """The request was one too many; the server wants to be left alone for `after` seconds."""
        self._share += (1 - self._share) / _OUTCOMES
        if self._noise and self._share <= _MORE * self._noise + _SLACK and (after or 0.0) < _LONG:
            return  # whoever sent it waits before it sends it again
        if self._noise:
            self._noise, self._doubted = 0.0, self._clock() + _DOUBT
        if ticket.epoch == self._epoch:
            self._in_vain = 0 if self._balance > 0 else self._in_vain + 1
            if not self._in_vain:
                self._cycle = self._ended(ticket)
                if self._by_chance():
                    return
            self._slow_down(ticket, after or 0.0)
        elif after and (after >= _LONG or self._in_vain):  # sent before the refusal that counted
            self._resume = max(self._resume, self._clock() + after)
        if ticket.number > self._mark:
            self._balance -= 1
        if ticket.number >= self._first:
            self._refused += 1

    def _by_chance(self) -> bool:
        """Whether refusals have nothing to do with the rate; then the fastest of late is taken up again."""
        now = self._clock()
        self._cycles = [one for one in self._cycles if now - one.end < _MEMORY] + [self._cycle]
        judged = [one for one in self._cycles if one.accepted >= _ENOUGH]
        if not judged or now < self._doubted:
            return False
        fast, slow = max(judged, key=lambda one: one.rate), min(judged, key=lambda one: one.rate)
        if slow.rate > _SLOWER * fast.rate or slow.share < _NO_LESS * fast.share or slow.share > _NOISE:
            return False
        self._noise = self._share = slow.share
        self._course, self._cycles = _Course(now, fast.rate, below=1.0), []
        self._resume = self._next = now
        self._first, self._refused, self._begin = self._number, 0, now
        return True

    def _room(self) -> int:
        """How many may be in flight: at a given rate no more than Little's law needs, with some to spare."""
        rate = self.rate()
        if math.isinf(rate):
            return self._most
        if self._in_vain:
            return 1
        return min(self._most, math.ceil(2 * rate * (self._latency or 1)) + 2)

    def _ended(self, ticket: Ticket) -> _Cycle:
        now, sent = self._clock(), self._number - self._first
        fastest = self._most / self._latency if self._latency else sent / max(now - self._begin, 0.01)
        return _Cycle(
            self._begin,
            now,
            now - ticket.at,
            min(self._course.rate(ticket.at), fastest),
            max(1, ticket.number - self._first - self._refused),
            (self._refused + 1) / max(1, sent),
        )

    def _slow_down(self, ticket: Ticket, after: float) -> None:
        resume = max(self._resume, self._clock() + self._pause(after))
        self._course = self._new_course(resume, after)
        self._epoch += 1
        self._mark, self._balance = ticket.number, 0.0
        if self._cycle.accepted >= _ENOUGH:
            self._first, self._refused, self._begin = self._number, 0, resume
        self._resume = self._next = resume

    def _pause(self, after: float) -> float:
        pause = min(_LONGEST, _PAUSE * math.pow(_GROWTH, min(50, self._in_vain)))
        return max(after, pause) if after >= _LONG or self._in_vain else pause

    def _new_course(self, resume: float, after: float) -> _Course:
        cycle, told = self._cycle, after >= _LONG
        doubles = min(60.0, max(_DOUBLES, resume - cycle.begin))
        if resume - cycle.end >= _LONG + (0.0 if told else 1.5 * self._latency):  # a window was used up before its end
            self._windowed = True
            end = resume if told else self._clock()
            return _Course(resume, cycle.accepted / max(end - cycle.begin, 0.1), doubles)
        ceiling = cycle.ceiling(resume)
        step = min(_WIDE_STEP, max(_STEP, 0.1 * (cycle.rate / ceiling - 1)))
        if self._windowed:
            return _Course(resume, ceiling, doubles, step)
        return _Course(resume, ceiling, max(_DOUBLES, 1.5 * self._latency), step, 1.0 if cycle.share < _FEW else _BELOW)
