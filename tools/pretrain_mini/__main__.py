"""`python -m tools.pretrain_mini`: both miniature backbones from nothing, in about two hours on one core."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from tools.pretrain_mini.corpus import checklist, document, short_checklist
from tools.pretrain_mini.language import Lesson, continue_language, train_language
from tools.pretrain_mini.places import teach_places
from tools.pretrain_mini.practice import loose_document, practice
from tools.pretrain_mini.vision import train_vision
from vistune.demo.run import one_thread
from vistune.train.run import bound_kernel_caches

Part = Literal["vision", "language", "all"]


@one_thread()
def pretrain(out: Path, seed: int, part: Part = "all") -> None:
    """Train the vision tower to `out/vision`, the language model to `out/language`, or both.

    The same seed on the same kind of machine gives the same weights.
    """
    bound_kernel_caches()
    if part != "language":
        train_vision(out / "vision", seed=seed, count=40_000, steps=4000)
        teach_places(out / "vision", seed=seed + 1, count=10_000, steps=500)
    if part != "vision":
        lessons = [Lesson(short_checklist, 240, 64), Lesson(checklist, 1000, 32), Lesson(document, 2600, 16)]
        folder = out / "language"
        train_language(folder, seed=seed, lessons=lessons)
        loose, last = Lesson(loose_document, 700, 16), Lesson(practice, 3800, 16)
        continue_language(folder, loose, seed=seed + 5, lr=1.5e-3, blurred=1.0, attention="sdpa")
        continue_language(folder, last, seed=seed + 6, lr=2e-3, blurred=0.5, attention="eager")  # faster in bf16


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain_mini", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    parser.add_argument("--part", choices=("vision", "language", "all"), default="all", help="default: all")
    args = parser.parse_args()
    pretrain(args.out, args.seed, args.part)


if __name__ == "__main__":
    main()
