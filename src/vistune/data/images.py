"""Image files as the vision tower's input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import LlavaImageProcessorPil

from vistune.errors import DataError


def open_image(path: Path) -> Image.Image:
    """The image in RGB, turned upright as its EXIF data says. Raises DataError if it is missing or corrupt."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise DataError("there is no such image", where=str(path)) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        fix = "replace the file, or remove its record"
        raise DataError(f"the image cannot be read: {error}", where=str(path), fix=fix) from None


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
    """The images of a folder as pixels, each decoded once as long as all kept ones take at most `limit` bytes."""

    def __init__(self, folder: Path, processor: Any, limit: int = 512 * 2**20) -> None:
        self._folder, self._processor, self._room = folder, processor, limit
        self._kept: dict[str, Tensor] = {}

    def get(self, name: str) -> Tensor:
        """The pixels (3, H, W) of the image of that name."""
        if name in self._kept:
            return self._kept[name]
        pixels = to_pixels(self._processor, open_image(self._folder / name))
        size = pixels.numel() * pixels.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[name] = pixels.to(torch.float32)
        return pixels
