"""Random scenes of COCO's categories: objects, boxes and background, before anything is drawn.

Training scenes never hold a pair of categories or a repeated count that `is_novel` holds out; half of the test
scenes do, so the test split measures composition, not memory.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import combinations
from typing import Literal

from vistune.demo.sprites import Sprite, sprite
from vistune.records import Box
from vistune.scene.facts import counts

Split = Literal["train", "val", "test"]
BACKGROUNDS = {
    "white": (250, 250, 250),
    "gray": (196, 198, 202),
    "blue": (176, 214, 246),
    "green": (184, 228, 170),
    "pink": (250, 196, 214),
    "yellow": (250, 238, 160),
    "purple": (212, 190, 240),
    "brown": (214, 184, 150),
}
ANGLES = (-16, -8, 0, 0, 8, 16)


@dataclass(frozen=True, slots=True)
class Category:
    """One of COCO's categories and the OpenMoji glyph that depicts it."""

    id: int
    name: str
    supercategory: str
    emoji: str


@dataclass(frozen=True, slots=True)
class Background:
    """One colour, or two: the first above the line at `split` (a fraction of the height), the second below."""

    colors: tuple[str, ...]
    split: float = 1.0

    def at(self, y: float) -> str:
        """The colour's name at height `y` (0 is the top)."""
        return self.colors[0] if y < self.split else self.colors[-1]


@dataclass(frozen=True, slots=True)
class Scene:
    """Boxes with the sprite drawn in each, on a background."""

    background: Background
    boxes: tuple[Box, ...]
    sprites: tuple[Sprite, ...]


@cache
def categories() -> dict[str, Category]:
    """The categories by name, in COCO's order."""
    text = resources.files("vistune.demo").joinpath("categories.json").read_text("utf-8")
    rows = [Category(**row) for row in json.loads(text)]
    return {row.name: row for row in rows}


def _one_in(n: int, *key: object) -> bool:
    return zlib.crc32("|".join(map(str, key)).encode()) % n == 0


def is_novel(boxes: tuple[Box, ...]) -> bool:
    """Whether the scene holds a pair of categories, or a count of one, that training never shows."""
    objects = counts(boxes)
    if any(n > 1 and _one_in(6, name, n) for name, n in objects.items()):
        return True
    return any(_one_in(12, *sorted(pair)) for pair in combinations(objects, 2))


def sample_scene(split: Split, seed: int, index: int) -> Scene:
    """The scene number `index` of a split; for `train` and `val` never novel, for `test` half of the time."""
    rng = random.Random(f"{split}/{seed}/{index}")
    novel = split == "test" and rng.random() < 0.5
    while True:
        scene = _sample(rng)
        if scene and is_novel(scene.boxes) == novel:
            return scene


def crowded_scene(seed: int, index: int) -> Scene:
    """A training scene of three to six objects, in which one to four of a category are about equally frequent.

    For the language model's text corpus, never drawn: counting takes more practice than the data set's scenes give.
    """
    rng = random.Random(f"crowded/{seed}/{index}")
    while True:
        scene = _sample(rng, sizes=(0, 0, 20, 25, 25, 30), repeats=(35, 25, 22, 18))
        if scene and not is_novel(scene.boxes):
            return scene


def _sample(
    rng: random.Random,
    sizes: Sequence[int] = (10, 22, 24, 20, 14, 10),
    repeats: Sequence[int] = (66, 18, 10, 6),
) -> Scene | None:
    """A scene of one to six objects, one to four of a category, by these weights; None if there is no room."""
    total = rng.choices((1, 2, 3, 4, 5, 6), sizes)[0]
    names: list[str] = []
    while len(names) < total:
        name = rng.choice([name for name in categories() if name not in names])
        names += [name] * min(total - len(names), rng.choices((1, 2, 3, 4), repeats)[0])
    boxes: list[Box] = []
    sprites: list[Sprite] = []
    largest = 0.46 if total <= 3 else 0.36
    for name in names:
        kind = sprite(categories()[name].emoji, rng.choice(ANGLES), rng.random() < 0.5)
        box = _place(rng, name, kind, largest, boxes)
        if box is None:
            return None
        boxes.append(box)
        sprites.append(kind)
    order = rng.sample(range(total), total)  # drawn in random order: later ones cover earlier ones
    return Scene(_background(rng), tuple(boxes[i] for i in order), tuple(sprites[i] for i in order))


def _place(rng: random.Random, name: str, kind: Sprite, largest: float, others: list[Box]) -> Box | None:
    for _ in range(30):
        side = rng.uniform(0.22, largest)
        width, height = side * min(1, kind.aspect), side * min(1, 1 / kind.aspect)
        x, y = rng.uniform(0.01, 0.99 - width), rng.uniform(0.01, 0.99 - height)
        box = Box(name, x, y, x + width, y + height)
        if not any(_crowded(box, other) for other in others):
            return box
    return None


def _crowded(a: Box, b: Box) -> bool:
    """Whether two objects overlap by more than a fifth of the smaller, or their centres are close."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    overlap = max(0.0, width) * max(0.0, height)
    (ax, ay), (bx, by) = a.center, b.center
    return overlap > 0.2 * min(a.area, b.area) or max(abs(ax - bx), abs(ay - by)) < 0.2


def _background(rng: random.Random) -> Background:
    first = rng.choice(list(BACKGROUNDS))
    if rng.random() < 0.6:
        return Background((first,))
    second = rng.choice([name for name in BACKGROUNDS if name != first])
    return Background((first, second), rng.uniform(0.35, 0.65))
