"""How far a long loop is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY = 10.0
"""Seconds between two plain lines."""


@contextmanager
def progress(what: str, total: int, console: Console) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of `total` steps."""
    if not console.is_terminal:
        yield _lines(what, total, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _lines(what: str, total: int, console: Console) -> Callable[[], None]:
    done, started = 0, time.monotonic()
    due = started + _LINE_EVERY

    def step() -> None:
        nonlocal done, due
        done += 1
        now = time.monotonic()
        if now >= due:
            due = now + _LINE_EVERY
            console.print(f"{what} {done:,} of {total:,}, {done / (now - started):.0f} a second")

    return step
