"""How a training is ended by a signal: see `vistune.stop`, which the data engine shares."""

from __future__ import annotations

from vistune.stop import StopAfterStep, stop_at_once

__all__ = ["StopAfterStep", "stop_at_once"]
