"""SIGINT (Ctrl-C) and SIGTERM: the first ends the current step and saves its state, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vistune.errors import Stopped

_SAME_REQUEST_SECONDS = 1.0
"""Launchers pass a signal on to processes that have received it, too: a second one this soon is the first again."""
_AFTER_STEP = "stopping after this step; a second signal stops at once"


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Inside, a signal raises Stopped wherever the program is."""

    def receive(number: int) -> None:
        raise Stopped(number)

    with _handled(receive):
        yield


class StopAfterStep:
    """Inside `noting()`, a signal is noted for the loop to see; a second one ends the process at once.

    `notice` is printed, and `callback` called with the first signal, in its handler. A second one within `same`
    seconds is the first again.
    """

    def __init__(
        self, notice: str = _AFTER_STEP, callback: Callable[[int], object] | None = None, *,
        same: float = _SAME_REQUEST_SECONDS,
    ) -> None:  # fmt: skip
        self._notice, self._callback, self._same = notice.encode() + b"\n", callback, same
        self.noted = 0
        """The signal, 0 while there is none."""
        self._at = 0.0

    @contextmanager
    def noting(self) -> Iterator[None]:
        with _handled(self._receive):
            yield

    def _receive(self, number: int) -> None:
        now = time.monotonic()
        if not self.noted:
            self.noted, self._at = number, now
            os.write(2, self._notice)
            if self._callback:
                self._callback(number)
        elif now - self._at > self._same:
            os._exit(128 + number)  # what is being written has no name yet


@contextmanager
def _handled(receive: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread only
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _frame: receive(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
