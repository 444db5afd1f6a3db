"""Features of a frozen vision tower, kept on disk: each image is encoded once, whatever the epochs and stages.

A file holds records of one size: the features of an image's crop, the hash of the image file's content and the crop's
number, a checksum of both. An incomplete record (the run was killed) is shorter than that, so it is never read; a
damaged one is reported and made anew. Every process of a run appends to a file of its own. The folder's name is a hash
of all else that the features depend on (weights, layer, preprocessing, precision), so they are never stale.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import torch
from torch import Tensor

_KEY, _SUM = 12, 4
"""Bytes of a key and of a checksum."""


def crop_keys(content: bytes, crops: int) -> list[bytes]:
    """The hashes by which the features of an image file's crops are found."""
    whole = blake2b(content, digest_size=_KEY).digest()
    return [whole, *(blake2b(whole, digest_size=_KEY, salt=bytes([crop])).digest() for crop in range(1, crops))]


class FeatureCache:
    """The features (I, V) of images' crops by their keys, at most `limit` bytes; thread-safe."""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: torch.dtype, limit: int) -> None:
        self._shape, self._dtype, self._folder = shape, dtype, folder
        self._size = shape[0] * shape[1] * dtype.itemsize
        self._record = self._size + _KEY + _SUM
        self._places: dict[bytes, tuple[int, int]] = {}  # which file, and where in it
        self._lock = threading.Lock()
        self._files: list[int] = []
        self._own: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.bin")):
            self._index(path)
        self._room = limit - len(self._places) * self._record
        self._damaged = False

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> Tensor | None:
        """The features (I, V) of that crop; None if they are not in the cache, or damaged."""
        place = self._places.get(key)
        if place is None:
            return None
        record = os.pread(self._files[place[0]], self._record, place[1])
        if record[self._size :] != key + _checksum(record[: self._size + _KEY]):
            self._forget(key)
            return None
        return torch.frombuffer(bytearray(record[: self._size]), dtype=self._dtype).reshape(self._shape)

    def put(self, key: bytes, features: Tensor) -> None:
        """Keep a crop's features (I, V), as long as there is room."""
        row = features.detach().to("cpu", self._dtype).contiguous().view(torch.uint8).numpy().tobytes()
        with self._lock:
            if key not in self._places and self._room >= self._record:
                self._append(row + key + _checksum(row + key), key)

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files, self._places = [], {}

    def _index(self, path: Path) -> None:
        file = os.open(path, os.O_RDONLY)
        self._files.append(file)
        for number in range(path.stat().st_size // self._record):
            start = number * self._record
            self._places[os.pread(file, _KEY, start + self._size)] = len(self._files) - 1, start

    def _forget(self, key: bytes) -> None:
        with self._lock:
            self._places.pop(key, None)
            if not self._damaged:
                self._damaged = True
                print(f"damaged features in {self._folder}: these images are encoded again", file=sys.stderr)

    def _append(self, record: bytes, key: bytes) -> None:
        if self._own is None:
            path = self._folder / f"{uuid4().hex}.bin"
            self._files.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND))
            self._own = len(self._files) - 1
        file = self._files[self._own]
        start = os.fstat(file).st_size
        try:
            written = os.write(file, record)
        except OSError:  # the disk is full: without the cache the run only takes longer
            written = 0
        if written < len(record):
            os.ftruncate(file, start)
            self._room = 0
            return
        self._room -= written
        self._places[key] = self._own, start


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM)
