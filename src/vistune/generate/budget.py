"""What a run may spend: the worst case of a request is set aside before it is sent, and its real cost put in later.

So the spending never passes a cap, whatever is under way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from vistune.generate.limits import Limits
from vistune.generate.price import NOTHING, PICO, Cost
from vistune.llm.client import Request

_PER_MESSAGE = 16
"""More tokens than any chat template puts around a message."""
_PER_REQUEST = 64


class Budget:
    """The spending of a run: what was spent, what is set aside, and the caps that their sum never passes."""

    def __init__(self, spent: Cost, limits: Limits, *, remote: bool) -> None:
        self.spent, self.reserved = spent, Cost()
        self._price, self._remote = limits.price, remote
        self._max_pico = None if limits.max_usd is None else int(limits.max_usd * PICO)
        self._max_tokens = limits.max_total_tokens

    @property
    def counts(self) -> bool:
        """Whether there is a price or a cap, so that a killed run's requests have to be known to the next one."""
        return self._price is not None or self._max_tokens is not None

    def worst(self, request: Request) -> Cost:
        """The most that `request` can cost: no tokenizer makes more tokens of a text than it has bytes."""
        if not self._remote:
            return Cost()
        texts = [request.system, *(message.text for message in request.messages)]
        input_ = sum(len(text.encode()) + _PER_MESSAGE for text in texts) + _PER_REQUEST
        if request.schema is not None:
            input_ += len(json.dumps(request.schema))
        return self._cost(input_, request.max_tokens or 0, 0)

    def cost(self, usage: Mapping[str, int], request: Request) -> Cost:
        """What a reply with this `usage` cost; the worst case of `request` where the server does not say."""
        if "input" not in usage or "output" not in usage:
            return self.worst(request)
        return self._cost(usage["input"], usage["output"], usage.get("cached", 0))

    def reserve(self, request: Request) -> Cost | None:
        """Set aside the most that `request` can cost, if that counts; None, if a cap would be passed by it."""
        if not self.counts:
            return NOTHING
        cost = self.worst(request)
        after = self.spent + self.reserved + cost
        if self._max_pico is not None and after.pico > self._max_pico:
            return None
        if self._max_tokens is not None and after.tokens > self._max_tokens:
            return None
        self.reserved += cost
        return cost

    def settle(self, reserved: Cost, cost: Cost) -> None:
        """Put what was really spent in the place of what was set aside."""
        self.reserved -= reserved
        self.spent += cost

    def told(self) -> str:
        """What was spent, in words; empty where nobody is paid or says how many tokens it took."""
        money = f"{self.spent.usd:,.4f} USD" if self._price else ""
        tokens = f"{self.spent.tokens:,} tokens" if self.spent.tokens else ""
        return ", ".join(filter(None, (money, tokens)))

    def _cost(self, input_: int, output: int, cached: int) -> Cost:
        return Cost(self._price.of(input_, output, cached) if self._price else 0, input_ + output)
