"""What a run will send and cost, before any request is sent.

Without replies the estimate comes from the length of the prompts and of what a kind allows; with some in the store (of
a pilot) from their usage: input tokens per character, output tokens by their mean, each kind on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import variance

from rich.box import SIMPLE_HEAD
from rich.table import Table

from vistune.generate.injection import hostile_context
from vistune.generate.judge import attempts
from vistune.generate.kinds import Kind
from vistune.generate.plan import Plan
from vistune.llm.budget import PICO, Price
from vistune.llm.client import Client, Request
from vistune.llm.http import RemoteClient
from vistune.llm.images import ImageFile
from vistune.llm.store import Store
from vistune.records import ImageRecord
from vistune.scene.context import format_context

_CHARACTERS, _TOKENS_PER_WORD = 4.0, 1.4
"""Usual figures of English: characters per token, tokens per word."""


@dataclass(slots=True)
class KindEstimate:
    """A kind's figures: the number of `requests` and the tokens of all of them.

    The `seen_…` are of the samples with a reply whose tokens the server counted, all attempts together; `seen_output`
    has one number a sample.
    """

    kind: Kind
    requests: int = 0
    characters: int = 0
    image_tokens: int = 0
    seen_characters: int = 0
    seen_input: int = 0
    seen_cached: int = 0
    seen_output: list[int] = field(default_factory=list)

    @property
    def stored(self) -> int:
        return len(self.seen_output)

    @property
    def calibrated(self) -> bool:
        """Whether the figures come from real replies."""
        return self.stored > 1

    @property
    def input(self) -> float:
        """Input tokens of all requests, the stored ones included."""
        if not self.calibrated:
            return self.seen_input + self.image_tokens + (self.characters - self.seen_characters) / _CHARACTERS
        per_character = self.seen_input / self.seen_characters
        return self.seen_input + per_character * (self.characters - self.seen_characters)

    @property
    def output(self) -> tuple[float, float, float]:
        """Output tokens of all requests: expected, lowest and highest."""
        rest, seen = self.requests - self.stored, sum(self.seen_output)
        if self.calibrated:
            expected = seen + seen / self.stored * rest
            return expected, expected - 2 * self.error, expected + 2 * self.error
        (turns, most), (words, longest) = self.kind.turns, self.kind.words
        low, high = (seen + rest * _TOKENS_PER_WORD * n for n in (turns * words, most * min(longest, 400)))
        return math.sqrt(max(low, 1) * max(high, 1)) if rest else low, low, high

    @property
    def error(self) -> float:
        """Standard error of the output tokens; nan without replies."""
        if not self.calibrated:
            return math.nan
        rest = self.requests - self.stored
        return rest * math.sqrt(variance(self.seen_output) * (1 / self.stored + 1 / max(1, rest)))

    def usd(self, price: Price) -> tuple[float, float, float, float]:
        """USD of all requests: expected, lowest and highest, and the standard error (nan if unknown)."""
        cached = self.input * self.seen_cached / self.seen_input if self.seen_input else 0.0
        fixed = price.pico(round(self.input), 0, round(cached)) / PICO
        expected, low, high = (fixed + price.pico(0, round(output)) / PICO for output in self.output)
        return expected, low, high, self.error * price.output / 10**6


def estimate(plan: Plan, client: Client, store: Store | None) -> list[KindEstimate]:
    """The figures of every kind of the plan; without a store from the prompts and the sizes of the images alone."""
    found = {kind.name: KindEstimate(kind) for kind, _ in plan.shares}
    for planned in plan:
        if planned.request is None:
            continue
        one = found[planned.kind.name]
        characters = len(planned.request.system) + sum(len(message.text) for message in planned.request.messages)
        one.requests += 1
        one.characters += characters
        one.image_tokens += _image_tokens(planned.request, client)
        usages = [attempt.stored.reply.usage for attempt in attempts(planned, client.name, store)] if store else []
        if usages and all("input" in usage and "output" in usage for usage in usages):
            one.seen_characters += characters
            one.seen_input += sum(usage["input"] for usage in usages)
            one.seen_cached += sum(usage.get("cached", 0) for usage in usages)
            one.seen_output.append(sum(usage["output"] for usage in usages))
    return list(found.values())


def _image_tokens(request: Request, client: Client) -> int:
    images = (image for image in request.images if isinstance(image, ImageFile))
    return sum(client.image_tokens(*image.size) for image in images) if isinstance(client, RemoteClient) else 0


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
    if price:
        text += f", {sum(one.usd(price)[0] for one in kinds):,.2f} USD"
    known = [one for one in kinds if one.requests]
    if not known or not all(one.calibrated for one in known):
        return text + "\nfrom the length of the prompts alone, without retries; --pilot 200 measures it on 200 samples"
    text += f"\nstandard error: {math.hypot(*(one.error for one in known)):,.0f} output tokens"
    return text + (f", {math.hypot(*(one.usd(price)[3] for one in known)):,.2f} USD" if price else "")


def _range(expected: float, low: float, high: float, form: str) -> str:
    if high - low < 0.005 * max(high, 1):
        return format(expected, form)
    return f"{format(expected, form)} ({format(max(0.0, low), form)} to {format(high, form)})"


_RULE = "─" * 30
_NOTHING = "(no request: the image has no captions and no boxes)"


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
    count = existing = 0
    for record in records:
        count += 1
        existing += record.image.is_file()
        for context, names in _contexts(record, kinds).items():
            write(f"{_RULE} image {record.id}: {', '.join(names)}\n{context}\n")
    files = f"{existing:,} there, {count - existing:,} missing"
    needs = "sees" if any(kind.sees for kind in kinds) else "does not need"
    write(f"{count:,} images; image files: {files} (the teacher {needs} them)")


def _contexts(record: ImageRecord, kinds: Sequence[Kind]) -> dict[str, list[str]]:
    """Each different context of an image, with the names of the kinds that show it."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        shown = kind.of(record)
        text = format_context(record, shown.context) if shown else _NOTHING
        if shown and (reasons := hostile_context(record, shown.context)):
            text = f"{text}\n(quarantined, no request: {', '.join(reasons)})"
        found.setdefault(text, []).append(kind.name)
    return found
