"""`vistune mini pretrain`: both miniature backbones from nothing, in about two hours on one core."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vistune.mini.threads import one_thread
from vistune.train.run import bound_kernel_caches

Part = Literal["vision", "language", "all"]


@one_thread()
def pretrain(out: Path, seed: int, part: Part = "all") -> None:
    """Train the vision tower to `out/vision`, the language model to `out/language`, or both.

    The same seed on the same kind of machine gives the same weights.
    """
    from vistune.mini.corpus import checklist, document, short_checklist
    from vistune.mini.language import Lesson, continue_language, train_language
    from vistune.mini.loose import loose_document
    from vistune.mini.practice import practice
    from vistune.mini.vision import train_vision

    bound_kernel_caches()
    if part != "language":
        train_vision(out / "vision", seed=seed, count=40_000, steps=4000)
    if part != "vision":
        lessons = [Lesson(short_checklist, 240, 64), Lesson(checklist, 1000, 32), Lesson(document, 2600, 16)]
        folder = out / "language"
        train_language(folder, seed=seed, lessons=lessons)
        loose, last = Lesson(loose_document, 700, 16), Lesson(practice, 3800, 16)
        continue_language(folder, loose, seed=seed + 5, lr=1.5e-3, blurred=1.0, attention="sdpa")
        continue_language(folder, last, seed=seed + 6, lr=2e-3, blurred=0.5, attention="eager")  # faster in bf16
