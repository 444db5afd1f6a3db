"""The tokens of an image: as many for every image, or by its size where a model cuts it into tiles (anyres).

A model with tiles reads an image as several crops: the whole one, shrunk to a square, and the tiles of the grid that
fits best. Its tokens are those of the whole, then the tiles' in rows over the full width, without the patches that
are padding, each row ended by the model's newline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import unpad_image

NEWLINE = -1
"""The place of a model's newline among the features of an image, in `ImageTokens.order`."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageTokens:
    """What the language model reads of an image, by places in the features of its crops."""

    crops: int
    features: int  # of all crops
    order: NDArray[np.int32]  # (T), the feature of each token, or NEWLINE

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.order)


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """How a model reads images: in crops of `features` features, one for an image without `pinpoints`.

    With `pinpoints`, the (height, width) of grids of tiles in pixels, a crop has `side` x `side` pixels.
    """

    features: int
    side: int = 0
    pinpoints: tuple[tuple[int, int], ...] = ()

    def tokens(self, size: Callable[[], tuple[int, int]]) -> ImageTokens:
        """The tokens of an image; `size` gives its width and height, and is called only if they matter."""
        if not self.pinpoints:
            return _one_crop(self.features)
        width, height = size()
        rows, columns = select_best_resolution((height, width), list(self.pinpoints))
        return _tiles(self.features, rows // self.side, columns // self.side, height, width)


@lru_cache(maxsize=8)
def _one_crop(features: int) -> ImageTokens:
    return ImageTokens(1, features, np.arange(features, dtype=np.int32))


@lru_cache(maxsize=4096)
def _tiles(features: int, rows: int, columns: int, height: int, width: int) -> ImageTokens:
    """The tokens of `rows` x `columns` tiles, by the functions that transformers applies to their features."""
    side, crops = round(features**0.5), 1 + rows * columns
    places = torch.arange(features, crops * features, dtype=torch.int32)
    places = places.view(rows, columns, side, side).transpose(1, 2).reshape(1, rows * side, columns * side)
    lines = F.pad(unpad_image(places, (height, width)), (0, 1), value=NEWLINE)
    order = torch.cat([torch.arange(features, dtype=torch.int32), lines.flatten()])
    return ImageTokens(crops, crops * features, order.numpy())
