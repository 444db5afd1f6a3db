"""Annotation files of images, in the formats that people have, as `ImageRecord`s; one format a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vistune.errors import AnnotationError, did_you_mean
from vistune.records import ImageRecord
from vistune.registry import Registry

OnError = Callable[[AnnotationError], None]
"""What a bad record is given to: raise it, or note it and leave the record out."""


def stop(error: AnnotationError) -> None:
    """The strict way with a bad record: nothing is read."""
    raise error


class Source(Protocol):
    """The annotated images of one split of a path, in the order of the files; they can be gone through again.

    A path, a file or a split that is not there is an AnnotationError; a bad record goes to `on_error`, once. Further
    keyword arguments are the source's options.
    """

    needs_split: ClassVar[bool]
    """Whether there always are splits, so that one is taken where none is named."""
    images: Path
    """The folder that the image files are below."""

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None: ...

    @staticmethod
    def fits(path: Path) -> bool:
        """Whether what is at `path` is in this format, by its content."""

    def __iter__(self) -> Iterator[ImageRecord]: ...


sources: Registry[type[Source]] = Registry("annotation source", "vistune.sources")


def open_source(name: str, path: Path, split: str | None = None, *, on_error: OnError = stop, **options: Any) -> Source:
    """The source of that name. An option that it does not have is an AnnotationError.

    So is a path in another format; the error then says which source would read it.
    """
    source = sources.get(name)
    known = [key for key in inspect.signature(source).parameters if key not in ("path", "split", "on_error")]
    for key in options:
        if key not in known:
            has = f"its options: {', '.join(map(_flag, known))}" if known else "it has no options"
            raise AnnotationError(f"the source '{name}' has no option {_flag(key)}", where=str(path), fix=has)
    try:
        return source(path, split, on_error=on_error, **options)
    except AnnotationError as error:
        if source.fits(path):
            raise
        others = [f"--source {other}" for other in sources.names() if other != name and sources.get(other).fits(path)]
        if not others:
            raise
        raise AnnotationError(error.what, where=error.where, fix=f"try {' or '.join(others)}") from None


def no_split(split: str | None, known: list[str], where: Path) -> AnnotationError:
    """The error for a split that is not there."""
    fix = did_you_mean(split or "", known) if known else "leave --split out: this format has no splits"
    return AnnotationError(f"there is no split '{split}'", where=str(where), fix=fix)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
