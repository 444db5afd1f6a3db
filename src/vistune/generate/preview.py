"""What a run will send and cost, before any request is sent.

Without replies the estimate comes from the length of the prompts and of what a kind allows; with some in the store (of
a pilot) from their usage: input tokens per character, output tokens by their mean, each kind on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.table import Table

from vistune.generate.injection import hostile_context
from vistune.generate.judge import attempts
from vistune.generate.kinds import Kind
from vistune.generate.plan import Plan
from vistune.llm.budget import PICO, Price
from vistune.llm.client import Request
from vistune.llm.store import Store
from vistune.records import ImageRecord
from vistune.scene.context import format_context

_CHARACTERS, _TOKENS_PER_WORD = 4.0, 1.4
"""Usual figures of English: characters per token, tokens per word."""


@dataclass(slots=True)
class _Sums:
    """Sums over the samples that have replies, all attempts together: their number, their tokens."""

    count: int = 0
    characters: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    squares: float = 0.0


@dataclass(slots=True)
class KindEstimate:
    """A kind's figures: the number of `requests`, of which `stored` have a reply, and the tokens of all of them."""

    kind: Kind
    requests: int = 0
    characters: int = 0
    seen: _Sums = field(default_factory=_Sums)

    @property
    def stored(self) -> int:
        """Number of samples with a reply whose tokens the server counted."""
        return self.seen.count

    @property
    def calibrated(self) -> bool:
        """Whether the figures come from real replies."""
        return self.seen.count > 1 and self.seen.characters > 0

    @property
    def input(self) -> float:
        """Input tokens of all requests, the stored ones included."""
        per_character = self.seen.input / self.seen.characters if self.calibrated else 1 / _CHARACTERS
        return self.seen.input + per_character * (self.characters - self.seen.characters)

    @property
    def output(self) -> tuple[float, float, float]:
        """Output tokens of all requests: expected, lowest and highest."""
        rest = self.requests - self.seen.count
        if self.calibrated:
            mean = self.seen.output / self.seen.count
            expected = self.seen.output + mean * rest
            return expected, expected - 2 * self.error, expected + 2 * self.error
        (turns, most), (words, longest) = self.kind.turns, self.kind.words
        low, high = (self.seen.output + rest * _TOKENS_PER_WORD * n for n in (turns * words, most * min(longest, 400)))
        return math.sqrt(max(low, 1) * max(high, 1)) if rest else low, low, high

    @property
    def error(self) -> float:
        """Standard error of the output tokens; nan without replies."""
        if not self.calibrated:
            return math.nan
        n, rest = self.seen.count, self.requests - self.seen.count
        variance = max(0.0, self.seen.squares / n - (self.seen.output / n) ** 2) * n / (n - 1)
        return rest * math.sqrt(variance * (1 / n + 1 / max(1, rest)))

    def usd(self, price: Price) -> tuple[float, float, float, float]:
        """USD of all requests: expected, lowest and highest, and the standard error (nan if unknown)."""
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
    """The estimate for the terminal."""
    table = Table(title="estimate", box=SIMPLE_HEAD, caption_justify="left")
    columns = ("requests", "stored", "to send", "input tokens", "output tokens", *(["USD"] if price else []))
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
    """All kinds together in a line, with the standard error where there are replies."""
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
    return text + "\nfrom the length of the prompts alone, without retries; --pilot 200 measures it on 200 samples"


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


_RULE = "─" * 30


def preview(
    records: Iterable[ImageRecord], kinds: Sequence[Kind], write: Callable[[str], None], *, examples: bool
) -> None:
    """Write each kind's prompt once, with its few-shot `examples` if wanted, then each image's context.

    No request is sent. A client that enforces JSON schemas gets the same with the JSON format.
    """
    for kind in kinds:
        write(f"{_RULE} {kind.name}: the prompt\n{kind.system}\n")
        for number, (seen, reply) in enumerate(zip(kind.fewshot[::2], kind.fewshot[1::2], strict=True), 1):
            if examples:
                write(f"{_RULE} {kind.name}: example {number}\n{seen.text}\n\n{_RULE} its reply\n{reply.text}\n")
        if kind.fewshot and not examples:
            write(f"… and {len(kind.fewshot) // 2} examples, which --limit 1 shows\n")
    count = there = 0
    for record in records:
        count += 1
        there += record.image.is_file()
        for context, names in _contexts(record, kinds).items():
            write(f"{_RULE} image {record.id}: {', '.join(names)}\n{context}\n")
    write(f"{count:,} images; image files: {there:,} there, {count - there:,} missing (the teacher does not need them)")


def _contexts(record: ImageRecord, kinds: Sequence[Kind]) -> dict[str, list[str]]:
    """Each different context of an image, with the names of the kinds that show it."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        text = format_context(record, kind.context)
        if reasons := hostile_context(record, kind.context):
            text = f"{text}\n(quarantined, no request: {', '.join(reasons)})"
        elif not text:
            text = f"(no request: the image has no {' and no '.join(kind.context)})"
        found.setdefault(text, []).append(kind.name)
    return found
