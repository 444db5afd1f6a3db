"""The progress of a run of requests: a live line on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vistune.printable import printable

_REDRAW, _LINE = 0.25, 10.0
"""Seconds between two updates on a terminal, and between two plain lines."""
_RECENT = 20.0
"""Seconds over which the speed is averaged."""


class Progress:
    """The figures of a run: the sender updates them, a line shows them every few seconds."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.done = self.sent = self.in_flight = 0
        self.reasons: Counter[str] = Counter()
        """Number of faults by reason: requests that are sent again or given up."""
        self.notes: Callable[[], Sequence[str]] = tuple
        """More to show at the end of the line: spending, rate limits."""
        self._marks: list[tuple[float, int]] = []

    def line(self) -> str:
        """All figures in a line."""
        parts = [f"{self.done:,} of {self.total:,} requests", *self._speed(), f"{self.in_flight:,} in flight"]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common(4))
        return " · ".join(filter(None, [*parts, *self.notes(), reasons]))

    @asynccontextmanager
    async def shown(self, console: Console) -> AsyncIterator[None]:
        """Show the line while entered."""
        task = asyncio.create_task(self._draw(console) if console.is_terminal else self._print(console))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _text(self) -> Text:
        return Text(printable(self.line()))

    def _speed(self) -> list[str]:
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] <= _RECENT] + [(now, self.done)]
        then, before = self._marks[0]
        seconds = now - then
        rate = (self.done - before) / seconds if seconds > 0 else 0.0
        if rate <= 0:
            return []
        left = timedelta(seconds=round((self.total - self.done) / rate))
        return [f"{rate:,.1f} per second", f"{left} left"]

    async def _draw(self, console: Console) -> None:
        with Live(self._text(), console=console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(_REDRAW)
                live.update(self._text(), refresh=True)

    async def _print(self, console: Console) -> None:
        while True:
            await asyncio.sleep(_LINE)
            console.print(self._text(), soft_wrap=True)
