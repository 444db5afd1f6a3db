"""Images that a request shows to a model: read and encoded when it is sent, and what they cost in tokens.

Two rules for the tokens. OpenAI's for GPT-4o and its like: the image is scaled to at most 2048 pixels, then its shorter
side to at most 768; 85 tokens and 170 for each tile of 512 by 512 (https://platform.openai.com/docs/guides/images).
The generic one: a token for 28 by 28 pixels, as Qwen-VL has; Anthropic's 750 pixels a token are nearly the same.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

from vistune.image_files import MAX_MEGAPIXELS, open_image_file, to_rgb
from vistune.llm.client import RequestError, ShownImage

_PATCH = 28
_TILE, _LONGEST, _SHORTER = 512, 2048, 768
_BASE, _PER_TILE = 85, 170
_DEAREST_BASE, _DEAREST_TILE = 2833, 5667
"""Of GPT-4o mini, which counts more tokens for an image than any other model that we know of."""
_QUALITY = 90
_LARGE = 4_000_000
"""Pixels of an image beyond which no other is decoded at the same time."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file, of at most `max_side` pixels when it is sent.

    `name` stands for it in a request's key: its path below the folder of images. `width` and `height` are its pixels,
    0 if unknown.
    """

    path: Path
    name: str
    max_side: int
    width: int = 0
    height: int = 0
    max_megapixels: float = MAX_MEGAPIXELS

    @property
    def key(self) -> str:
        """What a request's key has of it."""
        return f"{self.name} {self.max_side}"

    @property
    def size(self) -> tuple[int, int]:
        """Its width and height in pixels when it is sent; an unknown size counts as the largest square."""
        width, height = (self.width, self.height) if self.width and self.height else (self.max_side, self.max_side)
        scale = min(1.0, self.max_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def data_url(self) -> str:
        """The image in RGB, upright, as a JPEG in a data URL. Raises RequestError if it cannot be read."""
        from PIL import ImageOps

        if not self.path.is_file():
            raise RequestError("image_missing", f"there is no image {self.path}", retry=False)
        try:
            with open_image_file(self.path, self.max_megapixels) as file:
                ImageOps.exif_transpose(file, in_place=True)
                image = to_rgb(file)
        except Exception as error:  # Pillow's decoders raise many types of errors for a corrupt file
            raise RequestError("image_unreadable", f"{self.path}: {error}", retry=False) from None
        image.thumbnail((self.max_side, self.max_side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def data_url(image: str | ShownImage) -> str:
    """The data URL of an image that may be one. Raises RequestError if its file cannot be read."""
    return image if isinstance(image, str) else image.data_url()


def is_large(image: str | ShownImage) -> bool:
    """Whether an image takes so much memory that no other is decoded at the same time; one of unknown size does."""
    known = isinstance(image, ImageFile) and image.width and image.height
    return isinstance(image, ImageFile) and (not known or image.width * image.height > _LARGE)


def tiles(width: int, height: int) -> int:
    """The tiles of OpenAI's rule for an image of this size."""
    scale = min(1.0, _LONGEST / max(width, height))
    scale *= min(1.0, _SHORTER / (scale * min(width, height)))
    return math.ceil(width * scale / _TILE) * math.ceil(height * scale / _TILE)


def openai_tokens(width: int, height: int) -> int:
    """Tokens of an image by OpenAI's rule."""
    return _BASE + _PER_TILE * tiles(width, height)


def generic_tokens(width: int, height: int) -> int:
    """Tokens of an image by the generic rule."""
    return math.ceil(width / _PATCH) * math.ceil(height / _PATCH)


def most_tokens(image: str | ShownImage) -> int:
    """The maximum that a model counts for an image in a file; 0 for a data URL."""
    if not isinstance(image, ImageFile):
        return 0
    width, height = image.size
    return max(_DEAREST_BASE + _DEAREST_TILE * tiles(width, height), generic_tokens(width, height))
