"""Image files as the vision tower's input."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import LlavaImageProcessorPil, LlavaNextImageProcessorPil

from vistune.data.features import FeatureCache, crop_keys
from vistune.data.image_tokens import ImageTokens
from vistune.errors import DataError
from vistune.image_files import FORMATS, MAX_MEGAPIXELS, UnreadableImageError, open_content, to_rgb
from vistune.reading import read_bytes

_MAX_PIXELS = 64_000_000
"""Pixels of what preprocessing makes of an image."""
_LARGE = 4_000_000
"""Pixels of an image beyond which no other is decoded at the same time, to bound the memory of several readers."""
_SENT_AS_IT_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
"""Formats that every server reads."""
_ORIENTATION = 0x0112
"""The EXIF tag of an image that is stored turned."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The content of an image file, and its name in messages."""

    content: bytes
    where: str

    def open(self, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
        """The image in RGB, turned upright as its EXIF data says.

        Raises DataError if it is corrupt, in a format not among FORMATS, or larger than `max_megapixels`.
        """
        with self._opened(max_megapixels) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image)

    def size(self) -> tuple[int, int]:
        """Width and height of the image that `open` returns, from the file's header. Raises DataError as it does."""
        with self._opened(math.inf) as image:
            turned = image.getexif().get(_ORIENTATION, 1) > 4
            return (image.height, image.width) if turned else image.size

    @contextmanager
    def _opened(self, max_megapixels: float) -> Iterator[Image.Image]:
        try:
            with open_content(io.BytesIO(self.content), max_megapixels) as image:
                yield image
        except Exception as error:  # Pillow's decoders raise all sorts of errors for a corrupt file
            fix = f"replace the image ({', '.join(FORMATS)}), or remove its record"
            raise DataError(f"the image cannot be read: {error}", where=self.where, fix=fix) from None

    def is_large(self) -> bool:
        """Whether the image takes so much memory that it is to be decoded alone; false for one that is corrupt."""
        try:
            with open_content(io.BytesIO(self.content), math.inf) as image:
                return image.width * image.height > _LARGE
        except UnreadableImageError:
            return False


def read_image(path: Path) -> ImageFile:
    """The image file. Raises DataError if it is missing or no regular file."""
    if not path.exists():
        raise DataError("there is no such image", where=str(path), fix="check its path")
    return ImageFile(read_bytes(path, DataError), str(path))


def open_image(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """The image file in RGB. Raises DataError if it is missing, corrupt or larger than `max_megapixels`."""
    return read_image(path).open(max_megapixels)


def data_url(image: Path | Image.Image, max_megapixels: float = MAX_MEGAPIXELS) -> str:
    """The image as a data URL: the file's bytes if every server reads them, else PNG. Raises DataError."""
    content, kind = io.BytesIO(), "image/png"
    if isinstance(image, Path):
        file = read_image(image)
        upright = file.open(max_megapixels)
        with open_content(io.BytesIO(file.content), max_megapixels) as plain:
            known = plain.format in _SENT_AS_IT_IS and plain.mode in ("L", "RGB")
            if known and plain.getexif().get(_ORIENTATION, 1) == 1:
                content, kind = io.BytesIO(file.content), _SENT_AS_IT_IS[str(plain.format)]
            else:
                upright.save(content, "PNG")
    else:
        to_rgb(image).save(content, "PNG")
    return f"data:{kind};base64,{b64encode(content.getvalue()).decode()}"


def square_processor(
    settings: Mapping[str, Any], side: int, aspect: Literal["pad", "crop", "stretch"]
) -> LlavaImageProcessorPil:
    """An image processor to `side` x `side` pixels with the mean, deviation and filter of the tower's own settings.

    `pad` makes the image square with its mean colour (LLaVA-1.5), `crop` cuts out the centre, `stretch` does neither.
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


def tiles_processor(
    settings: Mapping[str, Any], side: int, pinpoints: Sequence[Sequence[int]]
) -> LlavaNextImageProcessorPil:
    """An image processor to the whole image and its tiles (LLaVA-1.6's anyres), of `side` x `side` pixels each.

    `pinpoints` are the (height, width) of the grids of tiles, of which an image gets the one that fits best.
    """
    return LlavaNextImageProcessorPil(
        image_grid_pinpoints=[list(one) for one in pinpoints],
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(settings["image_mean"]),
        image_std=list(settings["image_std"]),
        resample=settings.get("resample", Image.Resampling.BICUBIC),
        rescale_factor=settings.get("rescale_factor", 1 / 255),
    )


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What a model gets of an image: its crops (C, 3, H, W), and which of their features are tokens."""

    pixels: Tensor
    tokens: ImageTokens


def to_pixels(processor: Any, image: Image.Image, where: str = "") -> Tensor:
    """The image's crops as the vision tower reads them: float32 (C, 3, H, W); one, if the model has no tiles.

    Raises DataError (with `where`) for an image so long and thin that preprocessing would need gigabytes.
    """
    long, short = max(image.size), min(image.size)
    side = processor.size.get("shortest_edge") or 0  # the other edge grows with it
    pads = getattr(processor, "do_pad", False)  # None in processors that know no padding, as CLIP's
    tiles = hasattr(processor, "image_grid_pinpoints")  # an image that is cut into tiles is first made as large as they
    if not tiles and max(long**2 if pads else 0, side**2 * long // short) > _MAX_PIXELS:
        what = f"the image is too long and thin ({image.width} x {image.height} pixels)"
        raise DataError(what, where=where, fix="cut it, or remove its record")
    pixels = torch.from_numpy(processor(image, return_tensors="np")["pixel_values"][0])
    return pixels.view(-1, *pixels.shape[-3:])


class ImageStore:
    """Images as inputs of the model: cached features of a frozen vision tower where there are any, else pixels."""

    def __init__(
        self, read: Callable[[str], ImageFile], processor: Any, cache: FeatureCache | None = None, *,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:  # fmt: skip
        self._read, self._processor, self._cache, self._max = read, processor, cache, max_megapixels
        self._keys: dict[str, list[bytes]] = {}
        self._large = Lock()

    def get(self, name: str, crops: int) -> Tensor:
        """The features (C, I, V) or the pixels (C, 3, H, W) of that image's `crops` crops. Raises DataError."""
        file = self._read(name)
        if self._cache is not None:
            keys = crop_keys(file.content, crops)
            features = [one for key in keys if (one := self._cache.get(key)) is not None]
            if len(features) == crops:
                return torch.stack(features)
            self._keys[name] = keys
        with self._large if file.is_large() else nullcontext():
            return to_pixels(self._processor, file.open(self._max), file.where)

    def keep(self, names: Sequence[str], features: Tensor) -> None:
        """Cache the features (N, I, V) of crops whose pixels `get` returned; `names` are their images'."""
        for name, one in zip(names, features, strict=True):
            keys = self._keys.get(name)  # none: a blank image, or one that two batches read at the same time
            if self._cache is not None and keys:
                self._cache.put(keys.pop(0), one)

    def blank(self, crops: int) -> Tensor:
        """Pixels in the place of an image that cannot be read: the mean colour."""
        like = to_pixels(self._processor, Image.new("RGB", (64, 64)))[:1]
        return torch.zeros_like(like).repeat(crops, 1, 1, 1)
