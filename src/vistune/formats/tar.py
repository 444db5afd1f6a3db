"""WebDataset's tar files: the members of a record share their name up to the first dot and follow each other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import VistuneError

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""The endings of image files."""
Member = tuple[str, int, int]
"""The rest of a member's name (from the first dot), its offset and its length."""


def tar_records(shard: Path, error: type[VistuneError]) -> Iterator[tuple[str, list[Member]]]:
    """The members of each record of an uncompressed tar file. Raises `error` for one that is broken, or OSError."""
    key, found = "", list[Member]()
    try:
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                folder, slash, name = member.name.rpartition("/")
                stem, dot, rest = name.partition(".")
                if not member.isfile() or not dot:
                    continue
                if found and key != folder + slash + stem:
                    yield key, found
                    found = []
                key = folder + slash + stem
                found.append((dot + rest, member.offset_data, member.size))
    except tarfile.TarError as broken:
        raise error(f"not a whole tar file: {broken}", where=str(shard), fix="copy it again") from None
    if found:
        yield key, found
