"""Images with their boxes, for pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

from PIL import Image

from vistune.records import Box

_SIDE = 448
"""Maximum side of an embedded image in pixels."""
_HUES = (212, 28, 145, 330, 265, 85, 185, 355)
"""Hues of the boxes' colours in degrees; neighbours differ clearly."""


def embed(image: Image.Image) -> str:
    """An image in RGB as a data URI, scaled down to `_SIDE` pixels."""
    picture = image.copy()
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=84)
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
