"""Images with their boxes, for pages."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageOps

from vistune.errors import DataError
from vistune.image_files import open_content, open_image_file, to_rgb
from vistune.reading import read_bytes
from vistune.records import Box
from vistune.storage import atomic_path

_THUMBNAIL_BYTES = 4096
_THUMBNAILS = ((160, 75), (160, 50), (160, 25), (112, 25), (64, 10))
"""Maximum side in pixels and quality of a thumbnail; the first that is small enough is taken."""
_LARGE_SIDE = 1280
_SHOWN_BY_BROWSERS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_ORIENTATION, _TURNED = 0x0112, 5  # EXIF's tag, and its first value of a picture that lies on its side
_HUES = 24
"""Number of hues of the boxes' colours; 7, the step to the next free one, shares no factor with it."""

Rectangle = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""
Size = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image beside a page: a thumbnail as a data URI of at most 4 KB, the name of the larger file, pixels."""

    thumbnail: str
    file: str
    width: int
    height: int


def embed(image: Image.Image, side: int) -> str:
    """An image in RGB as a data URI, its longer side at most `side` pixels."""
    return _webp(image, side, 84)


def link(path: Path, page: Path) -> tuple[str, tuple[int, int]] | None:
    """An image file's address for a page, and the image's size in pixels as it is seen.

    None for a file that browsers do not show, or that cannot be read.
    """
    try:
        with open_image_file(path) as image:
            form, (width, height) = image.format, image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
        address = quote(os.path.relpath(path, page.parent).replace(os.sep, "/"))
    except Exception:  # Pillow's decoders raise many types of errors for a corrupt file
        return None
    return (address, (height, width) if turned else (width, height)) if form in _SHOWN_BY_BROWSERS else None


def store_picture(path: Path, folder: Path) -> Picture | None:
    """Put an image into `folder`, under a name by its content, for a page beside it; None if it cannot be read.

    A file that browsers show and that is no larger than 1280 pixels is copied, another is converted.
    """
    try:
        content = read_bytes(path, DataError)
        with open_content(io.BytesIO(content)) as image:
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
    with open_content(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a large JPEG is decoded at a fraction of its size
        upright = to_rgb(ImageOps.exif_transpose(image))
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


def class_hues(names: Iterable[str]) -> dict[str, int]:
    """A hue in degrees for each class, by its name; classes differ until all hues are taken."""
    hues: dict[str, int] = {}
    free: set[int] = set()
    for name in sorted(set(names)):
        free = free or set(range(_HUES))
        slot = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % _HUES
        while slot not in free:
            slot = (slot + 7) % _HUES
        free.remove(slot)
        hues[name] = slot * 360 // _HUES
    return hues


def place_boxes(
    boxes: Iterable[Box], width: int, height: int, hues: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Each box in pixels, with the rectangle of its label inside the image; the largest boxes first.

    `hues` are those of the classes of a whole page (see `class_hues`), by default of these boxes alone. A label
    stands where it covers least of its own box, of small boxes and of other labels.
    """
    boxes = sorted(boxes, key=lambda box: -box.area)
    hues = hues or class_hues(box.category for box in boxes)
    size = 0.046 * max(width, height)
    high = 1.35 * size
    places = [(box.x1 * width, box.y1 * height, (box.x2 - box.x1) * width, (box.y2 - box.y1) * height) for box in boxes]
    covered = [place for place in places if min(place[2:]) < 3 * high]
    placed = []
    for box, place in zip(boxes, places, strict=True):
        wide = size * (0.62 * len(box.category) + 0.8)
        label = _label(place, (wide, high), (width, height), covered)
        covered.append(label)
        placed.append({"name": box.category, "hue": hues[box.category], "box": place, "label": label, "size": size})
    return placed


def _label(place: Rectangle, label: Size, image: Size, covered: Iterable[Rectangle]) -> Rectangle:
    """The first place of a label above, below, right or left of its box that covers least of it and of `covered`."""
    (x, y, wide, high), (label_wide, label_high) = place, label
    corners = ((x, y - label_high), (x, y + high), (x + wide, y), (x - label_wide, y))
    inside = [
        (max(0.0, min(left, image[0] - label_wide)), max(0.0, min(top, image[1] - label_high)), *label)
        for left, top in corners
    ]
    others = (place, *covered)
    return min(inside, key=lambda one: round(sum(_overlap(one, other) for other in others), 3))


def _overlap(one: Rectangle, other: Rectangle) -> float:
    """The area in pixels that two rectangles share."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
