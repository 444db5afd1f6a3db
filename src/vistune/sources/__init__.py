"""Annotation files of images, in the formats that people have, as `ImageRecord`s; one format a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from vistune.errors import AnnotationError
from vistune.records import ImageRecord
from vistune.registry import Registry

OnError = Callable[[AnnotationError], None]
"""What a bad record is given to: raise it, or note it and leave the record out."""


def stop(error: AnnotationError) -> None:
    """The strict way with a bad record: nothing is read."""
    raise error


class Source(Protocol):
    """Reads one split of the annotated images below a folder.

    A path, a file or a split that is not there is an AnnotationError; a bad record goes to `on_error`.
    """

    def __call__(self, folder: Path, split: str, *, on_error: OnError = stop) -> Iterable[ImageRecord]:
        """The records, in the order of the files; they can be gone through again and need not all be in memory."""


sources: Registry[Source] = Registry("annotation source", "vistune.sources")
