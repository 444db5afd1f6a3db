"""How much the teacher takes at a time, and what it counts."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


class Bucket:
    """A token bucket: `rate` requests a second, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._since = float(burst), time.monotonic()

    def take(self) -> float:
        """0 if a request may pass, else the seconds until one may."""
        now = time.monotonic()
        self._left = min(self.burst, self._left + (now - self._since) * self.rate)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self.rate

    @property
    def left(self) -> int:
        """The requests that may pass at once."""
        return int(self._left)

    @property
    def full(self) -> float:
        """The seconds until all of the burst may pass again."""
        return (self.burst - self._left) / self.rate


@dataclass
class Stats:
    """What `/stats` reports. `bodies` counts requests by hash, `answered` those of them that got a full, good reply;
    the tokens are those of every reply that was written, whether it arrived or not."""  # fmt: skip

    bodies: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    batches: int = 0
    now: int = 0
    most: int = 0

    def report(self) -> dict[str, Any]:
        """All of it, with the number of requests."""
        return {**vars(self), "requests": self.bodies.total()}
