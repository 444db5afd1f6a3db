"""Images of requests: checked before they are decoded, each decoded once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import threading
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageInput, to_pixels
from vistune.errors import DataError
from vistune.image_files import to_rgb

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is decoded; Pillow's other decoders are larger targets than they are of use."""
_MAX_PIXELS = 25_000_000
_MAX_SIDE = 8_000
"""Pixels of the longer side: padding to a square takes 14 bytes for each pixel of that square."""
_MAX_FRAMES = 1_000
"""Frames of an animation, of which the first is read."""
_LARGE = 4_000_000
"""Pixels of an image beyond which no other is decoded at the same time."""
_DECODED = 64
"""Number of images whose pixels are kept."""


@dataclass(frozen=True, slots=True)
class Picture(ImageInput):
    """An image as the model gets it, and the hash of that."""

    key: int


class ImageReader:
    """Reads images for one model; the content of the latest is recognised and not decoded again."""

    def __init__(self, processor: Any, grid: ImageGrid) -> None:
        self._processor, self._grid = processor, grid
        self._known: OrderedDict[bytes, Picture] = OrderedDict()
        self._lock, self._large = threading.Lock(), threading.Lock()

    def read(self, content: bytes, where: str) -> Picture:
        """The first frame of an image file. Raises DataError with `where`, and nothing of the content."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            picture = self._known.get(digest)
        if picture is None:
            picture = self._decode(content, where)
        with self._lock:
            self._known[digest] = picture
            self._known.move_to_end(digest)
            if len(self._known) > _DECODED:
                self._known.popitem(last=False)
        return picture

    def _decode(self, content: bytes, where: str) -> Picture:
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            size, frames = image.size, getattr(image, "n_frames", 1)
        except Image.DecompressionBombError:
            raise _too_large(where) from None
        except Exception:  # Pillow's decoders raise all sorts of errors for a corrupt file
            what = f"the image is corrupt, or its format is none of {', '.join(FORMATS)}"
            raise DataError(what, where=where, fix="send another file") from None
        if size[0] * size[1] > _MAX_PIXELS or max(size) > _MAX_SIDE:
            raise _too_large(where)
        if frames > _MAX_FRAMES:
            raise DataError(f"the animation has more than {_MAX_FRAMES:,} frames", where=where, fix="send one frame")
        with image, self._large if size[0] * size[1] > _LARGE else nullcontext():
            try:
                image.seek(0)
                rgb = to_rgb(ImageOps.exif_transpose(image))
            except Exception:
                raise DataError("the image is corrupt or cut off", where=where, fix="send another file") from None
            pixels = to_pixels(self._processor, rgb, where)
        tokens = self._grid.tokens(lambda: rgb.size)
        digest = hashlib.sha256(pixels.numpy().tobytes() + tokens.order.tobytes()).digest()
        key = int.from_bytes(digest[:16], "big") << 16  # an image's tokens are numbered from it on
        return Picture(pixels, tokens, key)


def is_data_url(url: str) -> bool:
    """Whether the image is in the URL itself."""
    return url[:5].lower() == "data:"


def read_data_url(url: str, where: str) -> bytes:
    """The content of a base64 data URL of an image. Raises DataError for another or a broken one."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().startswith("data:image/") or not head.lower().endswith(";base64"):
        raise DataError(
            "the image's data URL does not begin with data:image/TYPE;base64,",
            where=where,
            fix="send data:image/png;base64,…",
        )
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise DataError("the base64 data of the image is broken", where=where, fix="encode it again") from None


def _too_large(where: str) -> DataError:
    return DataError(
        f"the image has more than {_MAX_PIXELS // 10**6} megapixels, or a side of more than {_MAX_SIDE:,} pixels",
        where=where,
        fix="send a smaller one",
    )
