"""What a run will take, before it is paid for: requests, tokens, money.

Without replies, from the length of the prompts and of what a kind allows; with some in the store (of a pilot), from
what these took: input tokens by the character, output tokens by their mean, each kind on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.table import Table

from vistune.generate.judge import attempts
from vistune.generate.kinds import Kind
from vistune.generate.plan import Plan
from vistune.llm.budget import PICO, Price
from vistune.llm.client import Request
from vistune.llm.store import Store

_CHARACTERS, _TOKENS_A_WORD = 4.0, 1.4
"""What is usual in English: characters a token, and tokens a word."""


@dataclass(slots=True)
class _Sums:
    """Over the samples that have replies: how many, and the sums of their tokens (all attempts together)."""

    count: int = 0
    characters: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    squares: float = 0.0


@dataclass(slots=True)
class KindEstimate:
    """A kind's figures: `requests` in all, of which `stored` have a reply; `input` and `output` tokens of all.

    `low` and `high` bound the output tokens; `error` is their standard error, where there are replies to take it from.
    """

    kind: Kind
    requests: int = 0
    characters: int = 0
    seen: _Sums = field(default_factory=_Sums)

    @property
    def stored(self) -> int:
        """The samples that have a reply with its tokens counted."""
        return self.seen.count

    @property
    def calibrated(self) -> bool:
        """Whether the figures come from real replies."""
        return self.seen.count > 1 and self.seen.characters > 0

    @property
    def input(self) -> float:
        """Input tokens of all requests, those stored included."""
        a_character = self.seen.input / self.seen.characters if self.calibrated else 1 / _CHARACTERS
        return self.seen.input + a_character * (self.characters - self.seen.characters)

    @property
    def output(self) -> tuple[float, float, float]:
        """Output tokens of all requests: expected, lowest and highest."""
        rest = self.requests - self.seen.count
        if self.calibrated:
            mean = self.seen.output / self.seen.count
            expected = self.seen.output + mean * rest
            return expected, expected - 2 * self.error, expected + 2 * self.error
        (turns, most), (words, longest) = self.kind.turns, self.kind.words
        low, high = (self.seen.output + rest * _TOKENS_A_WORD * n for n in (turns * words, most * min(longest, 400)))
        return math.sqrt(max(low, 1) * max(high, 1)) if rest else low, low, high

    @property
    def error(self) -> float:
        """The standard error of the output tokens."""
        if not self.calibrated:
            return math.nan
        n, rest = self.seen.count, self.requests - self.seen.count
        variance = max(0.0, self.seen.squares / n - (self.seen.output / n) ** 2) * n / (n - 1)
        return rest * math.sqrt(variance * (1 / n + 1 / max(1, rest)))

    def usd(self, price: Price) -> tuple[float, float, float, float]:
        """USD of all requests: expected, lowest and highest, and the standard error (nan where not known)."""
        cached = self.input * self.seen.cached / self.seen.input if self.seen.input else 0.0
        fixed = price.pico(round(self.input), 0, round(cached)) / PICO
        expected, low, high = (fixed + price.pico(0, round(output)) / PICO for output in self.output)
        return expected, low, high, self.error * price.output / 10**6


def estimate(plan: Plan, teacher: str, store: Store | None) -> list[KindEstimate]:
    """The figures of every kind of the plan; without a store from the prompts alone."""
    found = {kind.name: KindEstimate(kind) for kind, _ in plan.shares}
    for planned in plan:
        if planned.request is None:
            continue
        one, characters = found[planned.kind.name], _characters(planned.request)
        one.requests += 1
        one.characters += characters
        usages = [attempt.stored.reply.usage for attempt in attempts(planned, teacher, store)] if store else []
        if usages and all("input" in usage and "output" in usage for usage in usages):
            _add(one.seen, characters, usages)
    return list(found.values())


def estimate_table(kinds: Sequence[KindEstimate], price: Price | None) -> Table:
    """The figures for the terminal."""
    table = Table(title="what it takes", box=SIMPLE_HEAD, caption_justify="left")
    columns = ("requests", "stored", "to ask", "input tokens", "output tokens", *(["USD"] if price else []))
    table.add_column("kind", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for one in kinds:
        counts = [f"{n:,}" for n in (one.requests, one.stored, one.requests - one.stored, round(one.input))]
        money = [_range(*one.usd(price)[:3], ",.2f")] if price else []
        table.add_row(one.kind.name, *counts, _range(*one.output, ",.0f"), *money)
    table.caption = summary(kinds, price)
    return table


def summary(kinds: Sequence[KindEstimate], price: Price | None) -> str:
    """All kinds together in a line, with the standard error where there are replies to take it from."""
    requests, output = sum(one.requests for one in kinds), sum(one.output[0] for one in kinds)
    text = f"{requests:,} requests, {sum(one.input for one in kinds):,.0f} input and {output:,.0f} output tokens"
    known = [one for one in kinds if one.requests]
    if price:
        text += f", {sum(one.usd(price)[0] for one in kinds):,.2f} USD"
    if known and all(one.calibrated for one in known):
        error = math.sqrt(sum(one.error**2 for one in known))
        text += f"\nstandard error: {error:,.0f} output tokens"
        if price:
            text += f", {math.sqrt(sum(one.usd(price)[3] ** 2 for one in known)):,.2f} USD"
        return text
    return text + "\nfrom the prompts' length alone, without retries: --pilot 200 asks 200 times and knows better"


def _add(seen: _Sums, characters: int, usages: Sequence[Mapping[str, int]]) -> None:
    output = sum(usage["output"] for usage in usages)
    seen.input += sum(usage["input"] for usage in usages)
    seen.cached += sum(usage.get("cached", 0) for usage in usages)
    seen.count += 1
    seen.characters += characters
    seen.output += output
    seen.squares += output**2


def _characters(request: Request) -> int:
    return len(request.system) + sum(len(message.text) for message in request.messages)


def _range(expected: float, low: float, high: float, form: str) -> str:
    if high - low < 0.005 * max(high, 1):
        return format(expected, form)
    return f"{format(expected, form)} ({format(max(0.0, low), form)} to {format(high, form)})"
