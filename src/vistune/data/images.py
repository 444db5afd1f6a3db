"""Image files as the vision tower's input."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import LlavaImageProcessorPil

from vistune.errors import DataError


def open_image(path: Path) -> Image.Image:
    """The image file in RGB. Raises DataError if it is missing or corrupt."""
    try:
        with path.open("rb") as file:
            return decode_image(file, str(path))
    except OSError as error:
        what = "there is no such image" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(what, where=str(path)) from None


def decode_image(file: BinaryIO, where: str) -> Image.Image:
    """The image in RGB, turned upright as its EXIF data says. Raises DataError with `where` if it is corrupt."""
    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = "not in a known format" if isinstance(error, UnidentifiedImageError) else str(error)
        fix = "replace the image, or remove its record"
        raise DataError(f"the image cannot be read: {what}", where=where, fix=fix) from None


def square_processor(
    settings: Mapping[str, Any], side: int, aspect: Literal["pad", "crop", "stretch"]
) -> LlavaImageProcessorPil:
    """An image processor to `side` x `side` pixels with the mean, deviation and filter of the tower's own settings.

    `pad` makes the image square with its mean colour (LLaVA-1.5), `crop` takes the centre, `stretch` does neither.
    """
    return LlavaImageProcessorPil(
        do_pad=aspect == "pad",
        do_center_crop=aspect == "crop",
        size={"shortest_edge": side} if aspect == "crop" else {"height": side, "width": side},
        crop_size={"height": side, "width": side},
        image_mean=list(settings["image_mean"]),
        image_std=list(settings["image_std"]),
        resample=settings.get("resample", Image.Resampling.BICUBIC),
        rescale_factor=settings.get("rescale_factor", 1 / 255),
    )


def to_pixels(processor: Any, image: Image.Image) -> Tensor:
    """The image as the vision tower reads it: float32 (3, H, W)."""
    pixels: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
    return pixels


class ImageStore:
    """Images as pixels, each decoded once as long as all kept ones take at most `limit` bytes; safe in threads."""

    def __init__(self, open_: Callable[[str], Image.Image], processor: Any, limit: int = 512 * 2**20) -> None:
        self._open, self._processor, self._room = open_, processor, limit
        self._kept: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Tensor:
        """The pixels (3, H, W) of the image of that name."""
        if name in self._kept:
            return self._kept[name]
        pixels = to_pixels(self._processor, self._open(name))
        size = pixels.numel() * pixels.element_size()
        with self._lock:
            if size <= self._room and name not in self._kept:
                self._room -= size
                self._kept[name] = pixels
        return pixels

    def blank(self) -> Tensor:
        """Pixels in the place of an image that cannot be read: the mean colour."""
        side = self._processor.crop_size
        return torch.zeros(3, side["height"], side["width"])
