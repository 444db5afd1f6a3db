"""Annotation files of images, in the formats that people have, as `ImageRecord`s; one format a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vistune.errors import AnnotationError
from vistune.formats import stop
from vistune.recipe.generation import AnnotationOptions
from vistune.recipe.schema import option_name
from vistune.records import ImageRecord
from vistune.registry import Registry
from vistune.sources._helpers import OnError, image_size, missing

__all__ = ["OnError", "Source", "detect", "open_annotations", "open_source", "sources", "stop", "with_size"]


class Source(Protocol):
    """The annotated images of one split of a path, in the order of the files; they can be iterated again.

    A path, a file or a split that does not exist is an AnnotationError; a bad record goes to `on_error`, once. Further
    keyword arguments are the source's options.
    """

    needs_split: ClassVar[bool]
    """Whether there always are splits, so that one is taken where none is named."""
    images: Path
    """The folder that the image files are below."""

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None: ...

    @staticmethod
    def fits(path: Path) -> bool:
        """Whether `path` is in this format, by its content."""

    def __iter__(self) -> Iterator[ImageRecord]: ...


sources: Registry[type[Source]] = Registry("annotation source", "vistune.sources")


def detect(path: Path) -> str:
    """The name of the one source that fits. Raises AnnotationError if none or several do."""
    fitting = _fitting(path)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        what = f"several sources fit: {', '.join(fitting)}"
        raise AnnotationError(what, where=str(path), fix=f"choose {_options(fitting)}")
    if not path.exists():
        raise missing(path)
    what = f"no source recognises this {'folder' if path.is_dir() else 'file'}"
    raise AnnotationError(what, where=str(path), fix=f"name its format: {_options(sources.names())}")


def open_source(
    name: str | None, path: Path, split: str | None = None, *, on_error: OnError = stop, **options: Any
) -> Source:
    """The source of that name, or the one that `detect` finds. An option that it does not have is an AnnotationError.

    So is a path in another format; the error then names the source that fits.
    """
    source = sources.get(name or (name := detect(path)))
    known = [key for key in inspect.signature(source).parameters if key not in ("path", "split", "on_error")]
    for key in options:
        if key not in known:
            has = f"its options: {', '.join(map(option_name, known))}" if known else "it has no options"
            raise AnnotationError(f"the source '{name}' has no option {option_name(key)}", where=str(path), fix=has)
    try:
        return source(path, split, on_error=on_error, **options)
    except AnnotationError as error:
        if source.fits(path) or not (others := [other for other in _fitting(path) if other != name]):
            raise
        raise AnnotationError(error.what, where=error.where, fix=f"try {_options(others)}") from None


def open_annotations(options: AnnotationOptions, *, default_split: str, warn: Callable[[str], None]) -> Source:
    """The annotated images that a recipe or the command line names. Raises AnnotationError, as `open_source` does.

    `default_split` is the split of a format that always has some. `warn` gets a line for the format if it was
    detected, and for each record that is left out.
    """
    if options.data is None:
        fix = "vistune generate DATA, or `data` in the recipe: a folder, a file, or hub:owner/name"
        raise AnnotationError("the annotated images are missing", fix=fix)
    path = Path(options.data)
    name = options.source or detect(path)
    split = options.split or (default_split if sources.get(name).needs_split else None)
    names = AnnotationOptions.model_fields.keys() - _COMMON
    given = {key: value for key in names if (value := getattr(options, key))}
    given |= {key: Path(given[key]) for key in given.keys() & {"images", "category_names"}}

    def skip(error: AnnotationError) -> None:
        warn(f"left out: {error}")

    source = open_source(name, path, split, on_error=skip if options.skip_bad_records else stop, **given)
    if options.source is None:
        warn(f"{path}: detected as {name}")
    return source


_COMMON = {"data", "split", "source", "skip_bad_records"}
"""The options that every source has."""


def with_size(record: ImageRecord) -> ImageRecord:
    """The record with its image's size, read from the file where the annotations do not have it."""
    if record.width and record.height:
        return record
    size = image_size(record.image)
    if size is None:
        fix = "the size is needed: put the image there, or name its folder with --images"
        raise AnnotationError(f"the image {record.image} cannot be read", where=record.origin, fix=fix)
    return replace(record, width=size[0], height=size[1])


def _fitting(path: Path) -> list[str]:
    return [name for name in sources.names() if sources.get(name).fits(path)]


def _options(names: list[str]) -> str:
    return " or ".join(f"--source {name}" for name in names)
