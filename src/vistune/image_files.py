"""Image files of others: formats by an allow-list, a size that is checked before anything is decoded, and no way out
of the folder that images are in.
"""  # fmt: skip

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from vistune.errors import DataError
from vistune.reading import open_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What is decoded; Pillow's other decoders (PostScript among them) are larger targets than they are of use."""
MAX_MEGAPIXELS = 64.0
"""Default of the largest image that is decoded."""
Megapixels = Annotated[float, Field(gt=0, le=178)]
"""A limit of images; Pillow itself opens none beyond 178 megapixels."""


_STRIP = 256
"""Rows of an image that are put on white at a time."""
_GREYS = 4096, 65536
"""The greys of 12 bits a pixel, as scanners store them in files of 16 bits, and of 16."""


class UnreadableImageError(ValueError):
    """The content is no image of a known format, or one with too many pixels."""


@contextmanager
def open_image_file(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet.

    Raises DataError for what is no regular file, UnreadableImageError as `open_content` does; decoding it raises what
    Pillow's decoders raise.
    """
    with open_file(path, DataError) as file, open_content(file, max_megapixels) as image:
        yield image


@contextmanager
def open_content(file: IO[bytes], max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """The image in an open file, not decoded yet. Raises UnreadableImageError."""
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise UnreadableImageError("it has more than 178 megapixels") from None
    except Exception as error:  # the readers of a format's head raise all sorts of errors for a corrupt file
        raise UnreadableImageError("not in a known format, or cut off") from error
    with image:
        if image.width * image.height > max_megapixels * 1e6:
            what = f"{image.width} x {image.height} pixels are more than {max_megapixels:g} megapixels"
            raise UnreadableImageError(f"{what} (--max-megapixels)")
        yield image


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, as models, teachers and pages get it.

    Greys of 16 bits a pixel become 8 (Pillow would cut off what is brighter). An image with none above 4095, as X-ray
    and CT scanners write, has 12 bits: its white is 4095. What is transparent becomes white: the colors below it are
    nothing that a person sees. Raises ValueError for floating-point pixels, whose range is unknown.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 bits a pixel")
    if image.mode.startswith("I"):
        greys = np.asarray(image).clip(0, _GREYS[-1] - 1)
        count = next(count for count in _GREYS if greys.max() < count)
        return Image.fromarray((greys // (count // 256)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """The image without its transparency; in strips, as more copies of a large one would take a gigabyte."""
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        box = (0, top, image.width, min(top + _STRIP, image.height))
        part = image.crop(box).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), box)
    return flat


def is_file(name: str | Path) -> bool:
    """Whether a name of others' is that of a file; one that is too long, or has a NUL, is none's."""
    try:
        return os.path.isfile(name)  # noqa: PTH113
    except (OSError, ValueError):
        return False


class ImagesFolder:
    """The folder of a data set's images, which the data's paths must not leave: by `..`, from the root, or by links.

    With `allow_outside` they may.
    """

    def __init__(self, folder: str | Path, *, allow_outside: bool = False) -> None:
        self._root = os.path.realpath(folder)
        self._allow_outside = allow_outside
        self._real: dict[str, str] = {}  # of folders, as most images share theirs

    def holds(self, file: str) -> bool:
        """Whether a file lies in the folder once its links are followed, or may be anywhere."""
        if self._allow_outside:
            return True
        folder, name = os.path.split(file)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        real = os.path.join(self._real[folder], name)  # noqa: PTH118, a path object costs ten times as much
        if name in ("", ".", "..") or os.path.islink(real):  # noqa: PTH114
            real = os.path.realpath(real)
        return real.startswith(self._root.rstrip(os.sep) + os.sep)
