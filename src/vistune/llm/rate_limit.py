"""How fast requests may be sent: slow start, additive increase, multiplicative decrease.

The number in flight starts small and grows by one with every reply (slow start). Once the server refuses requests as
too many, a rate in requests per second takes over: it grows steadily, and each time that more than a small share of
the requests sent at it is refused, it falls to what was accepted. Waits that the server asks for are kept. While the
server gives no replies at all, one request at a time probes it, and the run gives up after `patience` seconds.

tests/llm/test_rate_limit.py simulates servers with token buckets and fixed windows of 1 to 60 s at latencies up to
2 s, and says which share of their limit is reached. Not promised: buckets much shorter than the latency, and full
speed where a gateway refuses more than `TOLERANCE` of the requests at random.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from vistune.errors import ClientError
from vistune.llm.client import RequestError

START = 16
"""Requests in flight at the beginning."""
GROWTH = 0.03
"""Growth of the rate per second."""
DECREASE, MAX_DECREASE = 0.9, 0.5
"""Parts of the rate that are left after a decrease, at most and at least."""
TOLERANCE, ENOUGH = 0.03, 3
"""Share and number of refused requests above which the rate is too high."""
PAUSE, MAX_PAUSE = 0.25, 60.0
"""Seconds of the pause after a decrease, which doubles while everything is refused, and of the longest."""
LONG_WAIT = 2.0
"""Seconds from which a requested wait concerns all requests: shorter ones are rounded, or about one request."""
OUTAGE = 12
"""Number of faults in a row after which the server counts as down."""


class RateLimit:
    """Decides when the next request may be sent, with at most `concurrency` in flight. `clock` gives seconds."""

    def __init__(self, concurrency: int, patience: float, clock: Callable[[], float]) -> None:
        self._concurrency, self._patience, self._clock = concurrency, patience, clock
        self._window = float(min(START, concurrency))
        self._rate, self._since = math.inf, clock()
        self._next = self._resume = clock()
        self._accepted = self._refused = self._in_vain = 0  # in_vain: decreases in a row without any reply between
        self._faults: Counter[str] = Counter()
        self._faulty_since: float | None = None
        self._row = 0

    @property
    def rate(self) -> float:
        """Requests per second at present; infinite until the server refuses some."""
        return self._rate * math.exp(GROWTH * min(1_000.0, max(0.0, self._clock() - self._since)))

    def __str__(self) -> str:
        if self._row >= OUTAGE:
            return "no replies from the server: probing with one request at a time"
        return "" if math.isinf(self._rate) else f"limited to {self.rate:,.1f} requests per second"

    def wait(self, in_flight: int) -> float:
        """Seconds until a request may be sent; infinite where one in flight must end first."""
        if in_flight >= (1 if self._in_vain or self._row >= OUTAGE else self._window):
            return math.inf
        return max(0.0, self._resume - self._clock(), self._next - self._clock())

    def sent(self) -> float:
        """Count a request that is sent now; returns the time, for `accepted` or `refused`."""
        now = self._clock()
        if math.isfinite(self._rate):
            self._next = max(self._next, now - 1 / self.rate) + 1 / self.rate
        return now

    def accepted(self, sent: float) -> None:
        """The request sent at that time got its reply."""
        self._window = min(self._concurrency, self._window + 1)
        self._faults.clear()
        self._faulty_since, self._row = None, 0
        if sent >= self._since:
            self._accepted += 1
            self._in_vain = 0

    def refused(self, sent: float, retry_after: float | None = None) -> None:
        """The request sent at that time was refused as one too many; the server asks for a wait of `retry_after` s."""
        now, wait = self._clock(), retry_after or 0.0
        if wait >= LONG_WAIT:
            self._resume = max(self._resume, now + wait)
        if sent < self._since:
            return  # sent before the last decrease, which it cannot judge
        self._refused += 1
        enough = self._refused >= ENOUGH or self._in_vain
        if enough and self._refused > TOLERANCE * (self._accepted + self._refused):
            self._decrease(now, sent)

    def fault(self, error: RequestError) -> None:
        """A request got no reply, for whatever reason. Raises ClientError when the patience is at its end."""
        now = self._clock()
        self._faulty_since = now if self._faulty_since is None else self._faulty_since
        self._faults[error.reason] += 1
        self._row += not error.overload
        wait = error.retry_after or 0.0
        waited = now - self._faulty_since
        if wait > self._patience:
            what = f"the server asks for a wait of {wait / 60:,.0f} minutes, longer than the patience"
            raise ClientError(what, fix="run the same command again then, or raise --patience")
        if waited > self._patience and self._faults.total() >= OUTAGE:
            faults = ", ".join(f"{reason} {count:,}" for reason, count in self._faults.most_common())
            last = f"; the last message: {error.message}" if error.message else ""
            what = f"no reply for {waited / 60:.0f} minutes, only faults ({faults}){last}"
            raise ClientError(what, fix="check the server and run the same command again: it resumes there")

    def _decrease(self, now: float, sent: float) -> None:
        """Fall to the rate that was accepted since the last decrease, within bounds, and count anew."""
        measured, rate = self._accepted / max(sent - self._since, 0.1), self.rate
        lowest, highest = (1.0, math.inf) if math.isinf(rate) else (MAX_DECREASE * rate, DECREASE * rate)
        self._rate = min(max(measured, lowest), highest)
        if not self._accepted:
            self._in_vain += 1
        self._resume = max(self._resume, now + min(MAX_PAUSE, PAUSE * 2.0 ** min(self._in_vain, 20)))
        self._since = max(now, self._resume)
        self._next = self._since
        self._accepted = self._refused = 0
