"""Image files in folders: found in a stable order, and their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats.tar import IMAGES
from vistune.records import ImageRecord


def image_files(folder: Path) -> Iterator[Path]:
    """The images below a folder, a folder at a time, by name; hidden ones are passed over."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    yield from (entry for entry in entries if is_image(entry) and entry.is_file())
    for entry in entries:
        if entry.is_dir():
            yield from image_files(entry)


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its ending."""
    return path.suffix.lower() in IMAGES


def image_size(file: object) -> tuple[int, int] | None:
    """Width and height of an image file (a path or an open file) from its head; None if it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:  # type: ignore[arg-type]
            return image.size
    except (OSError, UnidentifiedImageError, ValueError):
        return None


def with_size(record: ImageRecord) -> ImageRecord:
    """The record with its image's size, read from the file where the annotations did not say it."""
    if record.width and record.height:
        return record
    size = image_size(record.image)
    if size is None:
        fix = "this needs the image itself: put it there, or name its folder with --images"
        raise AnnotationError(f"the image {record.image} cannot be read", where=record.origin, fix=fix)
    return replace(record, width=size[0], height=size[1])
