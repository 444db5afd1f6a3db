"""How fast a teacher is asked: all at once until it says that this is too much, then as fast as it takes.

Additive increase, multiplicative decrease, on the rate of requests. The first refusal ends the time without a rate:
from then on requests are spaced, by the rate that was accepted, which doubles until something is refused again. Each
such refusal marks the rate it came at as the ceiling; the rate recovers to a little below it, stays there, and only
then probes beyond, faster the longer nothing is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vistune.clients.base import Quota

_DECREASE = 0.9
_BELOW = 0.98
"""The part of the ceiling at which the rate stays."""
_RECOVERY, _PLATEAU = 3.0, 20.0
"""Seconds until the rate is back below the ceiling, and until it probes beyond."""
_PROBE, _PROBE_DOUBLES, _SEARCH_DOUBLES = 0.01, 6.0, 3.0
"""The part of the ceiling by which the rate goes beyond it; seconds until that, or a rate without ceiling, doubles."""
_LATE = 0.02
"""Seconds by which a sender that woke up late may catch up."""
_LONGEST_PAUSE = 60.0
_SHORT = 0.5
"""A quota that is back in fewer seconds is not worth a pause."""


@dataclass(frozen=True, slots=True)
class _Course:
    """The rate over time: `start` at `since`, then up to below the `ceiling`; for `plateau` seconds not beyond."""

    since: float
    start: float
    ceiling: float
    plateau: float = _PLATEAU

    def rate(self, at: float) -> float:
        seconds = max(0.0, at - self.since)
        if math.isinf(self.ceiling):
            return self.start * math.pow(2, min(60.0, seconds / _SEARCH_DOUBLES))
        target = _BELOW * self.ceiling
        recovered = target - (target - self.start) * math.exp(-seconds / _RECOVERY)
        beyond = max(0.0, seconds - self.plateau)
        return recovered + self.ceiling * _PROBE * (math.pow(2, min(60.0, beyond / _PROBE_DOUBLES)) - 1)


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What went before a refusal: from when on, how many were accepted, and the rate that was too much."""

    begin: float
    accepted: int
    rate: float


class Pace:
    """Says when the next request may be sent, for at most `most` at a time. `clock` gives seconds."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        now = clock()
        self._course = _Course(now, math.inf, math.inf)
        self._resume = self._next = self._begin = now
        self._cut = -math.inf  # what was sent before it says nothing new
        self._cycle = _Cycle(now, 0, math.inf)
        self._cut_at = now
        self._accepted, self._in_vain = 0, 0
        self._latency = 0.0

    def rate(self) -> float:
        """The requests a second that may be sent now; infinite as long as nothing was refused."""
        return self._course.rate(self._clock())

    def wait(self, in_flight: int) -> float:
        """The seconds before a request may be sent; infinite where one of those in flight has to end first."""
        if in_flight >= self._room():
            return math.inf
        return max(0.0, self._resume - self._clock(), self._next - self._clock())

    def sent(self) -> None:
        """A request is being sent."""
        rate = self.rate()
        if math.isfinite(rate):
            slack = min(_LATE, 2 / rate)
            self._next = max(self._next, self._clock() - slack) + 1 / rate

    def accepted(self, sent_at: float, quota: Quota | None = None) -> None:
        """A request that was sent at `sent_at` got its reply."""
        self._accepted += 1
        if sent_at > self._cut:
            self._in_vain = 0
        latency = self._clock() - sent_at
        self._latency = latency if not self._latency else 0.9 * self._latency + 0.1 * latency
        if quota and quota.requests == 0 and sent_at > self._cut and quota.reset >= _SHORT:
            self._slow_down(sent_at, quota.reset)

    def refused(self, sent_at: float, after: float | None = None, quota: Quota | None = None) -> None:
        """A request that was sent at `sent_at` was one too many; the server wants to be left alone for `after`."""
        hint = after if after is not None else quota.reset if quota and quota.requests == 0 else None
        if sent_at > self._cut:
            self._slow_down(sent_at, hint)
        elif hint:  # of those sent together with the first that was refused
            self._resume = max(self._resume, self._clock() + hint)

    def _room(self) -> int:
        """How many may be in flight: at a given rate no more than Little's law needs, with some to spare."""
        rate = self.rate()
        if math.isinf(rate):
            return self._most
        if self._in_vain > 1:
            return 1
        return min(self._most, math.ceil(1.5 * rate * self._latency) + 2)

    def _slow_down(self, sent_at: float, hint: float | None) -> None:
        now = self._clock()
        if self._accepted:
            self._cycle, self._in_vain = _Cycle(self._begin, self._accepted, self._course.rate(sent_at)), 0
        else:  # nothing new is known but that the pause was too short
            self._in_vain += 1
        resume = max(self._resume, now + (self._pause() if hint is None else hint))
        self._course = self._new_course(self._cycle, resume, resume - (now if self._accepted else self._cut_at))
        if self._accepted:
            self._cut_at = now
        self._cut, self._begin, self._accepted = now, resume, 0
        self._resume = self._next = resume

    def _new_course(self, cycle: _Cycle, resume: float, pause: float) -> _Course:
        seconds = max(resume - cycle.begin, 1e-3)
        lately = max(1, cycle.accepted) / max(seconds, 1.0)
        if pause > 2 and pause > 0.3 * seconds:  # a window's number was used up before its end
            return (
                _Course(resume, lately, lately, max(_PLATEAU, 1.5 * seconds))
                if math.isfinite(cycle.rate) or seconds > 20
                else _Course(resume, lately, math.inf)
            )
        if math.isinf(cycle.rate):
            return _Course(resume, lately, math.inf)
        return _Course(resume, min(_DECREASE * cycle.rate, max(0.5 * cycle.rate, lately)), cycle.rate)

    def _pause(self) -> float:
        """The pause where the server gives none: short at first, doubling while all that is sent is refused."""
        if self._in_vain:
            return min(_LONGEST_PAUSE, math.ldexp(0.25, self._in_vain))
        rate = self._cycle.rate
        return min(1.0, 4 / rate) if math.isfinite(rate) else 0.25
