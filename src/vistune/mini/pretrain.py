"""`vistune mini pretrain`: both miniature backbones from nothing, in a few hours on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Part = Literal["vision", "language", "all"]


def pretrain(out: Path, seed: int, part: Part = "all") -> None:
    """Train the vision tower to `out/vision`, the language model to `out/language`, or both.

    The same seed and number of threads on the same machine give the same weights. What ships in
    `vistune/mini/backbones` was made by this, with seed 0.
    """
    from vistune.mini.corpus import checklist, document
    from vistune.mini.language import Lesson, train_language
    from vistune.mini.vision import train_vision

    torch.set_num_threads(1)  # sums in a fixed order; run the two parts side by side to use two cores
    if part != "language":
        train_vision(out / "vision", seed=seed, count=40_000, steps=2800)
    if part != "vision":
        train_language(out / "language", seed=seed, lessons=[Lesson(checklist, 1400, 16), Lesson(document, 1300, 16)])
