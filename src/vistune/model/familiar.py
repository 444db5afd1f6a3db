"""A note where a vision tower that knows one data set only, as the miniature one does, meets other images.

Such a tower's configuration names the data set as `trained_on`, which stays in every checkpoint that has the tower.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vistune.errors import CheckpointError
from vistune.reading import WRONG_TYPE, read_json

_KEY = "trained_on"
_ATTRIBUTION = "ATTRIBUTION.md"


def known_data(checkpoint: str | Path) -> str:
    """The only data set that the vision tower in a checkpoint's folder knows, by its config.json; "" for any other."""
    try:
        vision = read_json(Path(checkpoint) / "config.json", CheckpointError)["vision_config"]
        return str(vision.get(_KEY, ""))
    except (CheckpointError, *WRONG_TYPE):  # its error comes where it is opened
        return ""


def known_to(config: Any) -> str:
    """The same of a model's configuration."""
    return str(getattr(config.vision_config, _KEY, ""))


def note_on(known: str, folders: Iterable[Path | str | None]) -> str:
    """A line for the user if some of these folders' images are not of the data set `known`; else ""."""
    if not known or all(_is_of(Path(folder), known) for folder in folders if folder):
        return ""
    return f"note: this model's vision tower knows {known} only; for other images, such as photos: vistune recipes"


def _is_of(folder: Path, known: str) -> bool:
    """Whether the folder, or one of the two above it, has the attribution of that data set."""
    path = Path(os.path.realpath(folder))  # links in a circle raise nothing here
    files = [one / _ATTRIBUTION for one in (path, *path.parents[:2])]
    return any(known in file.read_text("utf-8", "replace") for file in files if file.is_file())
