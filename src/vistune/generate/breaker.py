"""When nothing but faults comes back, the server is down: wait, ask one at a time, and give up in the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from vistune.errors import ClientError
from vistune.llm.client import RequestError

_FAULTS = 12
"""So many faults in a row, without any reply between, are no accident."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Breaker:
    """Opens after a row of faults: then one request at a time is sent, after pauses that double.

    A reply closes it. Nothing but faults for `patience` seconds raises ClientError. Being asked too much (overload)
    does not open it, for the pace sees to that, but tries the patience as well.
    """

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        self._patience, self._clock = patience, clock
        self._row, self._pause, self._until = 0, 0.0, 0.0
        self._since: float | None = None
        self._reasons: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """Whether requests are held back."""
        return self._pause > 0

    def wait(self, in_flight: int) -> float:
        """The seconds before the next request may be sent; infinite while the one that probes is under way."""
        if not self._pause:
            return 0.0
        return math.inf if in_flight else max(0.0, self._until - self._clock())

    def success(self) -> None:
        """A reply came."""
        if self._since is not None:
            self._row, self._pause, self._since = 0, 0.0, None
            self._reasons.clear()

    def fault(self, error: RequestError) -> None:
        """A request got no reply. Raises ClientError when the patience is at its end."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        self._reasons[error.reason] += 1
        if now - self._since > self._patience and self._reasons.total() >= _FAULTS:
            raise self._give_up(error, now - self._since)
        if error.overload:
            return
        self._row += 1
        if self._row >= _FAULTS and now >= self._until:
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
            self._until = now + self._pause

    def _give_up(self, error: RequestError, seconds: float) -> ClientError:
        faults = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common())
        last = f"; the last said: {error.words}" if error.words else ""
        what = f"no reply for {seconds / 60:.0f} minutes, only faults ({faults}){last}"
        return ClientError(what, fix="see to the server and run the same command again: it goes on from there")
