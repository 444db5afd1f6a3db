"""Documents whose cells weigh what they tell as a projector's features might, not as exact sums of words."""

from __future__ import annotations

import random

from vistune.mini.corpus import PLACE_WORDS, Document, document
from vistune.mini.scenes import BACKGROUNDS
from vistune.mini.vision import SIZES


def loose_document(seed: int, index: int) -> Document:
    """A document; in every second the cells weigh place, size and background as they like, as a projector's will."""
    told = document(seed, index)
    return loosened(told, random.Random(f"loose/{seed}/{index}")) if index % 2 else told


def loosened(told: Document, rng: random.Random) -> Document:
    """The document with cells that weigh place, size and background each by a random factor."""
    gains = {kind: rng.uniform(0, 1.5) for kind in ("place", "size", "ground")}
    kinds = dict.fromkeys(PLACE_WORDS, "place") | dict.fromkeys(SIZES, "size") | dict.fromkeys(BACKGROUNDS, "ground")
    cells = [
        {word: weight * gains.get(kinds.get(word, ""), 1.0) for word, weight in cell.items()} for cell in told.cells
    ]
    return Document(told.pieces, tuple(cells))
