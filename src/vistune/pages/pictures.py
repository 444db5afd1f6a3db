"""Images with their boxes, for pages."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vistune.records import Box
from vistune.storage import atomic_path

_SIDE = 448
"""Maximum side of an embedded image in pixels."""
_THUMBNAIL_BYTES = 4096
_THUMBNAILS = ((160, 75), (160, 50), (160, 25), (112, 25), (64, 10))
"""Maximum side in pixels and quality of a thumbnail; the first that is small enough is taken."""
_LARGE_SIDE = 1280
_SHOWN_BY_BROWSERS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_ORIENTATION, _TURNED = 0x0112, 5  # EXIF's tag, and its first value of a picture that lies on its side
_HUES = (212, 28, 145, 330, 265, 85, 185, 355)
"""Hues of the boxes' colours in degrees; neighbours differ clearly."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image beside a page: a thumbnail as a data URI of at most 4 KB, the name of the larger file, pixels."""

    thumbnail: str
    file: str
    width: int
    height: int


def embed(image: Image.Image) -> str:
    """An image in RGB as a data URI, scaled down to `_SIDE` pixels."""
    return _webp(image, _SIDE, 84)


def store_picture(path: Path, folder: Path) -> Picture | None:
    """Put an image into `folder`, under a name by its content, for a page beside it; None if it cannot be read.

    A file that browsers show and that is no larger than 1280 pixels is copied, another is converted.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            form, size = image.format, image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
        small = _decode(content, _THUMBNAILS[0][0])
        copied = max(size) <= _LARGE_SIDE and form in _SHOWN_BY_BROWSERS
        large = None if copied else _decode(content, _LARGE_SIDE)
    except Exception:  # Pillow's decoders raise many types of errors for a corrupt file
        return None
    ending = _SHOWN_BY_BROWSERS[form] if copied and form else "jpg"
    file = folder / f"{hashlib.sha256(content).hexdigest()[:20]}.{ending}"
    if not file.exists():
        with atomic_path(file) as partial:
            if large:
                large.save(partial, "JPEG", quality=85)
            else:
                partial.write_bytes(content)
    return Picture(_thumbnail(small), file.name, *(size[::-1] if turned else size))


def _decode(content: bytes, side: int) -> Image.Image:
    """The upright image in RGB, its longer side at most `side` pixels."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a large JPEG is decoded at a fraction of its size
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((side, side))
    return upright


def _thumbnail(image: Image.Image) -> str:
    found = (_webp(image, side, quality) for side, quality in _THUMBNAILS)
    return next(uri for uri in found if len(uri) <= _THUMBNAIL_BYTES)


def _webp(image: Image.Image, side: int, quality: int) -> str:
    picture = image.copy()
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def place_boxes(boxes: Iterable[Box], width: int, height: int) -> list[dict[str, Any]]:
    """Each box in pixels, with the rectangle of its label inside the image; the largest boxes first."""
    boxes = tuple(boxes)
    names = list(dict.fromkeys(box.category for box in boxes))
    size = 0.046 * max(width, height)

    def place(box: Box) -> dict[str, Any]:
        x, y = box.x1 * width, box.y1 * height
        label = size * (0.62 * len(box.category) + 0.8)
        return {
            "name": box.category,
            "hue": _HUES[names.index(box.category) % len(_HUES)],
            "box": (x, y, (box.x2 - box.x1) * width, (box.y2 - box.y1) * height),
            "label": (max(0.0, min(x, width - label)), max(0.0, y - 1.35 * size), label, 1.35 * size),
            "size": size,
        }

    return [place(box) for box in sorted(boxes, key=lambda box: -box.area)]
