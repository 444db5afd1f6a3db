"""The bounds of a run of requests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vistune.errors import VistuneError


@dataclass(frozen=True, slots=True)
class Limits:
    """How often to try, how long to wait, how much to spend.

    `concurrency`: maximum number of requests in flight. `attempts`: maximum number of replies requested until one is
    acceptable. `retries`: number of times that a request without a reply is sent again. `patience`: seconds without
    any reply until the run gives up. `max_usd` and `max_total_tokens`: caps on the spending of all runs that share a
    store. `retry_failed`: send requests again that were refused for good in an earlier run.
    """

    concurrency: int = 16
    attempts: int = 1
    retries: int = 8
    patience: float = 600.0
    max_usd: float | None = None
    max_total_tokens: int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "max_usd", "max_total_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                fix = "give a number above zero, or leave it out"
                raise VistuneError(f"{name.replace('_', ' ')} {value} is not positive", fix=fix)
