"""How hard a run may try, and what it may spend."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vistune.errors import VistuneError
from vistune.generate.price import Price


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a run.

    `attempts`: how often a reply that cannot be read is asked for in all (None: 2 where replies are paid for, else 1).
    `retries`: how often a request that gets no reply is sent again. `patience`: for how many seconds of nothing but
    faults. `max_tokens`: the longest reply asked for (None: 2048 where replies are paid for, else not said).
    `max_usd` (needs `price`) and `max_total_tokens` are caps for all runs into the folder together.
    `retry_failed`: ask again what was refused for good.
    """

    attempts: int | None = None
    retries: int = 8
    patience: float = 600.0
    max_tokens: int | None = None
    price: Price | None = None
    max_usd: float | None = None
    max_total_tokens: int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name in ("attempts", "max_tokens", "max_usd", "max_total_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise VistuneError(f"{name.replace('_', ' ')} {value} is not positive")
        if self.max_usd is not None and self.price is None:
            fix = "add --price INPUT:OUTPUT in USD per million tokens"
            raise VistuneError("a cap in USD needs the teacher's price", fix=fix)

    def longest(self, remote: bool) -> int | None:
        """The `max_tokens` of a request."""
        return self.max_tokens or (2048 if remote else None)

    def tries(self, remote: bool) -> int:
        """How often a reply is asked for until it can be read."""
        return self.attempts or (2 if remote else 1)
