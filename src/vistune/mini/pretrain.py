"""`vistune mini pretrain`: both miniature backbones from nothing, in an hour and a half on one core."""

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
    from vistune.mini.corpus import checklist, document, short_checklist
    from vistune.mini.language import Lesson, loosen_language, train_language
    from vistune.mini.vision import train_vision

    bound_kernel_caches()
    torch.set_num_threads(1)  # the number of threads decides the order of sums, and so the last bits
    if part != "language":
        train_vision(out / "vision", seed=seed, count=40_000, steps=4000)
    if part != "vision":
        lessons = [Lesson(short_checklist, 240, 64), Lesson(checklist, 1000, 32), Lesson(document, 2600, 16)]
        train_language(out / "language", seed=seed, lessons=lessons)
        loosen_language(out / "language", seed=seed + 5, steps=700)
