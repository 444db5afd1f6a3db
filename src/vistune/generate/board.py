"""How far a run is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

_REDRAW, _LINE = 0.25, 10.0
"""Seconds between two drawings on a terminal, and between two plain lines."""
_RECENT = 20.0
"""Seconds over which the rate is taken."""


class Board:
    """The figures of a run that is under way; who changes them is told nothing, who shows them looks now and then."""

    def __init__(self) -> None:
        self.total = self.done = self.sent = self.failed = self.in_flight = 0
        self.reasons: Counter[str] = Counter()
        """How often a request had to be sent again or was given up, by reason."""
        self.spent: Callable[[], str] = lambda: ""
        self.state: Callable[[], str] = lambda: ""
        """What holds the run up, if something does."""
        self._marks: list[tuple[float, int]] = []

    def line(self) -> str:
        """All figures in a line."""
        parts = [f"asking {self.done:,} of {self.total:,}", *self._speed(), f"{self.in_flight:,} in flight"]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common(4))
        return " · ".join(filter(None, [*parts, self.spent(), reasons, self.state()]))

    @asynccontextmanager
    async def shown(self, console: Console) -> AsyncIterator[None]:
        """Show the line while entered."""
        task = asyncio.create_task(self._draw(console) if console.is_terminal else self._print(console))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _speed(self) -> list[str]:
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] <= _RECENT] + [(now, self.done)]
        then, before = self._marks[0]
        seconds = now - then
        rate = (self.done - before) / seconds if seconds > 0 else 0.0
        if rate <= 0:
            return []
        return [f"{rate:,.1f} a second", f"{_duration((self.total - self.done) / rate)} left"]

    async def _draw(self, console: Console) -> None:
        with Live(Text(self.line()), console=console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(_REDRAW)
                live.update(Text(self.line()), refresh=True)

    async def _print(self, console: Console) -> None:
        while True:
            await asyncio.sleep(_LINE)
            console.print(self.line(), highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
