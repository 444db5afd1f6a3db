"""`vistune mini pretrain`: both miniature backbones from nothing, in a few hours on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from vistune.train.run import bound_kernel_caches

Part = Literal["vision", "language", "all"]


def pretrain(out: Path, seed: int, part: Part = "all") -> None:
    """Train the vision tower to `out/vision`, the language model to `out/language`, or both.

    The same seed on the same kind of machine gives the same weights.
    """
    from vistune.mini.corpus import checklist, document
    from vistune.mini.language import Lesson, train_language
    from vistune.mini.vision import train_vision

    bound_kernel_caches()
    if part != "language":
        torch.set_num_threads(1)  # the number of threads decides the order of sums, and so the last bits
        train_vision(out / "vision", seed=seed, count=40_000, steps=2800)
    if part != "vision":
        torch.set_num_threads(2)
        train_language(out / "language", seed=seed, lessons=[Lesson(checklist, 1400, 16), Lesson(document, 1300, 16)])
