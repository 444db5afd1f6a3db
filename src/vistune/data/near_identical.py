"""Images that show the same picture: copies, re-encoded, resized, slightly brighter. Found by pixels, never by name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vistune.errors import DataError
from vistune.image_files import open_image_file, to_rgb

_SIDE = 16
_MEAN, _MAXIMUM = 2.5, 25
"""Largest differences of two thumbnails' pixels, of 255, that re-encoding and resizing cause."""
_BANDS = 4
"""Hashes with fewer different bits than this share a band."""


class NearIdentical:
    """A set of images in which near-identical ones are found.

    The difference hash (dHash: for 8 x 8 places whether the picture becomes brighter to the right) finds candidates:
    those with up to 3 different bits. Thumbnails of 16 x 16 RGB pixels decide, as plain backgrounds share a hash.
    """

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._thumbnails: list[NDArray[np.int16]] = []  # (16 * 16 * 3) each
        self._by_band: dict[tuple[int, int], list[int]] = defaultdict(list)

    def find(self, image: Path | Image.Image) -> Path | None:
        """The first image added that looks the same. Raises DataError for an image that cannot be read."""
        return self._find(*(_read(image) if isinstance(image, Path) else _fingerprint(image)))

    def add(self, path: Path) -> Path:
        """Add an image; returns the first one that looks the same, which may be itself. Raises DataError."""
        bands, thumbnail = _read(path)
        known = self._find(bands, thumbnail)
        if known is not None:
            return known
        for band in enumerate(bands):
            self._by_band[band].append(len(self._paths))
        self._paths.append(path)
        self._thumbnails.append(thumbnail)
        return path

    def _find(self, bands: tuple[int, ...], thumbnail: NDArray[np.int16]) -> Path | None:
        candidates = sorted({index for band in enumerate(bands) for index in self._by_band.get(band, ())})
        if not candidates:
            return None
        others = np.stack([self._thumbnails[index] for index in candidates])
        gaps = np.abs(others - thumbnail)
        close = (gaps.mean(axis=1) <= _MEAN) & (gaps.max(axis=1) <= _MAXIMUM)
        return self._paths[candidates[int(close.argmax())]] if close.any() else None


def _read(path: Path) -> tuple[tuple[int, ...], NDArray[np.int16]]:
    if not path.exists():
        raise DataError("there is no such image", where=str(path), fix="check its path, or remove its record")
    try:
        with open_image_file(path) as image:
            image.draft("RGB", (4 * _SIDE, 4 * _SIDE))  # JPEG is decoded at a fraction of its size
            return _fingerprint(image)
    except Exception as error:  # Pillow's decoders raise all sorts of errors for a corrupt file
        if isinstance(error, DataError):
            raise
        fix = "replace it, or remove its record"
        raise DataError(f"the image cannot be read: {error}", where=str(path), fix=fix) from None


def _fingerprint(image: Image.Image) -> tuple[tuple[int, ...], NDArray[np.int16]]:
    """The hash in bands of 16 bits, and the thumbnail."""
    small = to_rgb(ImageOps.exif_transpose(image))
    gray = small.convert("L").resize((9, 8), Image.Resampling.BOX)
    thumbnail = np.asarray(small.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.int16)
    rows = np.asarray(gray, dtype=np.int16)  # (8, 9)
    bits = np.packbits(rows[:, 1:] > rows[:, :-1])
    return tuple(int(band) for band in bits.view(">u2")[:_BANDS]), thumbnail.ravel()
