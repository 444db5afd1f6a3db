"""`vistune view`: samples of a data file or of what `generate` wrote, as one HTML page."""

from __future__ import annotations

from vistune.view.page import write_view

__all__ = ["write_view"]
