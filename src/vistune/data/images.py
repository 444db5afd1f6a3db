"""Image files as the vision tower's input."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import LlavaImageProcessorPil

from vistune.data.features import FeatureCache, image_key
from vistune.errors import DataError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The content of an image file, and what messages call it."""

    content: bytes
    where: str

    def open(self) -> Image.Image:
        """The image in RGB, turned upright as its EXIF data says. Raises DataError if it is corrupt."""
        try:
            with Image.open(io.BytesIO(self.content)) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            what = "not in a known format" if isinstance(error, UnidentifiedImageError) else str(error)
            fix = "replace the image, or remove its record"
            raise DataError(f"the image cannot be read: {what}", where=self.where, fix=fix) from None


def read_image(path: Path) -> ImageFile:
    """The image file. Raises DataError if it is missing."""
    try:
        return ImageFile(path.read_bytes(), str(path))
    except OSError as error:
        what = "there is no such image" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(what, where=str(path)) from None


def open_image(path: Path) -> Image.Image:
    """The image file in RGB. Raises DataError if it is missing or corrupt."""
    return read_image(path).open()


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
    """Images as the model takes them: the features of a frozen vision tower where they are kept, else pixels."""

    def __init__(self, read: Callable[[str], ImageFile], processor: Any, kept: FeatureCache | None = None) -> None:
        self._read, self._processor, self._kept = read, processor, kept
        self._keys: dict[str, bytes] = {}

    def get(self, name: str) -> Tensor:
        """The features (I, V) or the pixels (3, H, W) of the image of that name. Raises DataError."""
        file = self._read(name)
        if self._kept is not None:
            key = image_key(file.content)
            if (features := self._kept.get(key)) is not None:
                return features
            self._keys[name] = key
        return to_pixels(self._processor, file.open())

    def keep(self, names: Sequence[str], features: Tensor) -> None:
        """Keep the features (N, I, V) of images whose pixels were given."""
        for name, one in zip(names, features, strict=True):
            key = self._keys.pop(name, None)  # none: a blank image, or one that two batches read at the same time
            if self._kept is not None and key is not None:
                self._kept.put(key, one)

    def blank(self) -> Tensor:
        """Pixels in the place of an image that cannot be read: the mean colour."""
        side = self._processor.crop_size
        return torch.zeros(3, side["height"], side["width"])
