"""vistune: visual instruction tuning, from annotated images to an assistant that talks about them.

    annotations ─ sources ─> ImageRecord ─ generate ─> Conversation ─ data ─> Batch ─ train ─> checkpoint
                                                                         model ──────┘      │
                                                             report <─ evaluate ── Verdict <┤
                                                                                    serve <─┘

>>> import vistune
>>> assistant = vistune.load("runs/demo/train/tune")
>>> assistant.chat("photo.jpg", "What is on the left?")
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vistune.errors import VistuneError
from vistune.records import Box, Conversation, ImageRecord, Turn

if TYPE_CHECKING:
    from vistune.model.assistant import Assistant

__all__ = ["Box", "Conversation", "ImageRecord", "Turn", "VistuneError", "__version__", "load"]
__version__ = version("vistune")


def load(checkpoint: str | Path, device: str | None = None) -> Assistant:
    """The assistant of a checkpoint folder, on `device` (default: a GPU if there is one). Raises CheckpointError."""
    from vistune.model.assistant import Assistant

    return Assistant.load(checkpoint, device)
