"""Scenes as pictures."""

from __future__ import annotations

from PIL import Image

from vistune.mini.scenes import BACKGROUNDS, Scene
from vistune.mini.sprites import picture


def draw(scene: Scene, side: int = 224) -> Image.Image:
    """The scene as an RGB image of `side` x `side` pixels; every box is tight around what is drawn in it."""
    ground = scene.background
    image = Image.new("RGB", (side, side), BACKGROUNDS[ground.colors[0]])
    if len(ground.colors) == 2:
        image.paste(BACKGROUNDS[ground.colors[1]], (0, round(ground.split * side), side, side))
    for box, kind in zip(scene.boxes, scene.sprites, strict=True):
        left, top = round(box.x1 * side), round(box.y1 * side)
        size = max(1, round(box.x2 * side) - left), max(1, round(box.y2 * side) - top)
        pixels = picture(kind.emoji, kind.angle, kind.mirrored).resize(
            size, Image.Resampling.BILINEAR, reducing_gap=2.0
        )
        image.paste(pixels, (left, top), pixels)
    return image
