"""The limits of a run of requests: prices, costs, and a budget that is never exceeded.

Amounts are whole picodollars (1e-12 USD), as sums of fractions are not exact. The worst case of a request is reserved
before it is sent and replaced by its real cost afterwards, so spending stays below a cap whatever is in flight.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from vistune.errors import VistuneError
from vistune.llm.client import Request
from vistune.llm.images import most_tokens

PICO = 10**12
_PER_MESSAGE, _PER_REQUEST = 16, 64
"""More tokens than any chat template puts around a message, and around all of them."""


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


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount: picodollars and tokens."""

    pico: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.pico + other.pico, self.tokens + other.tokens)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.pico - other.pico, self.tokens - other.tokens)

    @property
    def usd(self) -> float:
        """The money in USD."""
        return self.pico / PICO

    def __str__(self) -> str:
        money = f"{self.usd:.3g} USD, " if self.pico else ""
        return f"{money}{self.tokens:,} tokens"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens of input, output and cached input."""

    input: float
    output: float
    cached: float

    @classmethod
    def parse(cls, text: str) -> Price:
        """The price in `IN:OUT` or `IN:OUT:CACHED`. Raises VistuneError."""
        try:
            values = [float(part) for part in text.split(":")]
            if len(values) not in (2, 3) or not all(0 <= value < 10**6 for value in values):
                raise ValueError
        except ValueError:
            fix = "give USD per million tokens as INPUT:OUTPUT or INPUT:OUTPUT:CACHED, e.g. 0.15:0.60"
            raise VistuneError(f"'{text}' is not a price", where="--price", fix=fix) from None
        return cls(values[0], values[1], values[2] if len(values) == 3 else values[0])

    def pico(self, input_: int, output: int, cached: int = 0) -> int:
        """Picodollars for these numbers of tokens; `cached` is a part of the input."""
        each = [round(value * 10**6) for value in (self.input, self.cached, self.output)]
        pico = each[0] * max(0, input_ - cached) + each[1] * cached + each[2] * output
        return min(pico, 2**63 - 1)  # SQLite has no larger integers, and a server may report any usage


class Budget:
    """What requests cost, and whether the caps of `limits` allow another one; `spent` is what was spent before."""

    def __init__(self, spent: Cost, limits: Limits, price: Price | None, *, remote: bool) -> None:
        self.spent, self.reserved = spent, Cost()
        self._price, self._remote = price, remote
        self._max_pico = None if limits.max_usd is None else int(limits.max_usd * PICO)
        self._max_tokens = limits.max_total_tokens

    @property
    def enabled(self) -> bool:
        """Whether there is a price or a cap, so that the requests of a killed run must be known to the next one."""
        return self._price is not None or self._max_tokens is not None

    def worst(self, request: Request) -> Cost:
        """The maximum cost of `request`: no tokenizer makes more tokens of a text than it has bytes."""
        if not self._remote:
            return Cost()
        texts = [request.system, *(message.text for message in request.messages)]
        input_ = sum(len(text.encode("utf-8", "surrogatepass")) + _PER_MESSAGE for text in texts) + _PER_REQUEST
        input_ += sum(map(most_tokens, request.images))
        if request.schema is not None:
            input_ += len(json.dumps(request.schema))
        return self._cost(input_, request.max_tokens or 0, 0)

    def cost(self, usage: Mapping[str, int], request: Request) -> Cost:
        """The cost of a reply with this `usage`; the worst case of `request` where the server reports none."""
        if "input" not in usage or "output" not in usage:
            return self.worst(request)
        return self._cost(usage["input"], usage["output"], usage.get("cached", 0))

    def reserve(self, request: Request) -> Cost | None:
        """Reserve the maximum cost of `request` and return it; None if it would exceed a cap."""
        if not self.enabled:
            return Cost()
        cost = self.worst(request)
        after = self.spent + self.reserved + cost
        if self._max_pico is not None and after.pico > self._max_pico:
            return None
        if self._max_tokens is not None and after.tokens > self._max_tokens:
            return None
        self.reserved += cost
        return cost

    def settle(self, reserved: Cost, cost: Cost) -> None:
        """Replace a reservation by the real cost."""
        self.reserved -= reserved
        self.spent += cost

    def __str__(self) -> str:
        money = f"{self.spent.usd:,.4f} USD" if self._price else ""
        tokens = f"{self.spent.tokens:,} tokens" if self.spent.tokens else ""
        return ", ".join(filter(None, (money, tokens)))

    def _cost(self, input_: int, output: int, cached: int) -> Cost:
        return Cost(self._price.pico(input_, output, cached) if self._price else 0, input_ + output)
