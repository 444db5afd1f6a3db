"""Annotation files of images, in the formats that people have, as `ImageRecord`s; one format a file."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError, stop
from vistune.formats.hub import PREFIX
from vistune.image_files import is_file
from vistune.reading import unreadable
from vistune.recipe.generation import AnnotationOptions
from vistune.recipe.schema import option_name
from vistune.records import ImageRecord
from vistune.registry import Registry
from vistune.sources._annotated import AnnotatedImages, Rules
from vistune.sources._category_names import CategoryNames, read_table
from vistune.sources._contents import Contents
from vistune.sources._drafts import Findings
from vistune.sources._helpers import closest, missing
from vistune.sources._image_files import read_size
from vistune.sources._reading import Source

__all__ = ["AnnotatedImages", "Findings", "Source", "detect", "open_annotations", "open_source", "sources", "with_size"]


sources: Registry[type[Source]] = Registry("annotation source", "vistune.sources")


def detect(path: Path) -> str:
    """The name of the one source that fits. Raises AnnotationError if none or several do."""
    return _detect(_look(path))


def open_source(
    name: str | None, path: Path, split: str | None = None, *, default_split: str = "train",
    images: Path | None = None, rules: Rules | None = None, names: CategoryNames | None = None,
    on_error: OnError = stop, notice: Callable[[str], None] | None = None, **options: Any,
) -> AnnotatedImages:  # fmt: skip
    """The images of a path in the format of that name, or in the one that `detect` finds.

    An option that the source does not have is an AnnotationError. So is a path in another format; the error then has
    the command that opens it.
    """
    contents = _look(path)
    name = name or _detect(contents)
    source = sources.get(name)
    _check_options(name, source, path, options)
    try:
        opened = source(contents, split, default_split=default_split, images=images, **options)
    except OSError as error:  # a name in its settings that is too long
        raise unreadable(path, error, AnnotationError) from None
    except AnnotationError as error:
        others = [] if source.fits(contents) else [other for other in _fitting(contents) if _opens(other, contents)]
        if not others:
            raise
        raise AnnotationError(error.what, where=error.where, fix=_commands(path, others)) from None
    return AnnotatedImages(opened, rules=rules, names=names, on_error=on_error, notice=notice)


def open_annotations(options: AnnotationOptions, *, default_split: str, warn: Callable[[str], None]) -> AnnotatedImages:
    """The annotated images that a recipe or the command line names. Raises AnnotationError, as `open_source` does.

    `default_split` is the split where none is named and there are several. `warn` gets a line for the format if it
    was detected, and for each record that is left out.
    """
    path, images = _paths(options)
    if images and not images.is_dir():
        raise AnnotationError("there is no such folder", where=f"--images {images}", fix=closest(images) or "check it")
    name = options.source or detect(path)
    names = AnnotationOptions.model_fields.keys() - _COMMON
    given = {key: value for key in names if (value := getattr(options, key))}
    if "category_names" in given:
        given["category_names"] = Path(given["category_names"])

    def skip(error: AnnotationError) -> None:
        warn(f"left out: {error}")

    source = open_source(
        name, path, options.split, default_split=default_split, images=images,
        rules=Rules(options.strict, options.scale_boxes, options.allow_outside),
        names=CategoryNames(read_table(Path(options.rename)) if options.rename else None),
        on_error=skip if options.skip_bad_records else stop, notice=warn, **given,
    )  # fmt: skip
    if options.source is None:
        warn(f"{path}: detected as {name}")
    return source


_COMMON = {
    "data", "annotations", "split", "source", "images", "allow_outside", "max_megapixels", "strict", "scale_boxes",
    "rename", "skip_bad_records",
}  # fmt: skip
"""The options that every source has."""


def with_size(record: ImageRecord) -> ImageRecord:
    """The record with its image's size, read from the file where the annotations do not have it."""
    if record.width and record.height:
        return record
    size = read_size(record.image)
    if size is None:
        fix = "the size is needed: put the image there, or name its folder with --images"
        if is_file(record.image):
            fix = "replace it: it is no image, cut off, or has more than 178 megapixels"
        raise AnnotationError(f"the image {record.image} cannot be read", where=record.origin, fix=fix)
    width, height = size.upright
    return replace(record, width=width, height=height)


def _paths(options: AnnotationOptions) -> tuple[Path, Path | None]:
    """The path of the annotations, and the folder of the images: beside `annotations`, `data` is that folder."""
    data = options.annotations or options.data
    if data is None:
        fix = "vistune generate DATA, or `data` in the recipe: a folder, a file, or hub:owner/name"
        raise AnnotationError("the annotated images are missing", fix=fix)
    images = options.images or (options.data if options.annotations else None)
    return Path(data), Path(images) if images else None


def _check_options(name: str, source: type[Source], path: Path, options: dict[str, Any]) -> None:
    ours = inspect.signature(Source.__init__).parameters
    known = [key for key in inspect.signature(source).parameters if key not in ours]
    for key in options:
        if key not in known:
            has = f"its options: {', '.join(map(option_name, known))}" if known else "it has no options of its own"
            raise AnnotationError(f"the source '{name}' has no option {option_name(key)}", where=str(path), fix=has)


def _look(path: Path) -> Contents:
    if not path.exists() and not path.as_posix().startswith(PREFIX):
        raise missing(path)
    return Contents(path)


def _detect(contents: Contents) -> str:
    fitting, path = _fitting(contents), contents.path
    if len(fitting) > 1:
        fitting = [name for name in fitting if _opens(name, contents)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        what = f"several formats fit: {', '.join(fitting)}"
        raise AnnotationError(what, where=str(path), fix=_commands(path, fitting))
    what = f"no annotation format is recognised: {contents.describe()}"
    found = _inside(contents)
    if found is None:
        raise AnnotationError(what, where=str(path), fix=_by_hand(contents))
    inner, name = found
    raise AnnotationError(f"{what}; {inner.name} looks like {name}", where=str(path), fix=_commands(inner, [name]))


def _inside(contents: Contents) -> tuple[Path, str] | None:
    """A sub-folder or a file of a folder that one source opens, and its name."""
    files = [file for file in contents.files(*_ROWS, ".xml", ".yaml", ".yml", ".tar") if file != contents.path]
    folders = dict.fromkeys(file.parent for file in files[:_TRIED] if file.parent != contents.path)
    for inner in (*list(folders)[:_TRIED], *files[:_TRIED]):
        inside = Contents(inner)
        fitting = [name for name in _fitting(inside) if _opens(name, inside)]
        if len(fitting) == 1:
            return inner, fitting[0]
    return None


_ROWS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xlsx", ".parquet")
_TRIED = 20


def _by_hand(contents: Contents) -> str:
    """What to do with contents that no source opens."""
    columns = "vistune generate FILE --source captions --image-column NAME --caption-column NAME --show"
    if contents.path.is_file() and contents.files(*_ROWS):
        return f"rows with an image and captions under other names: {columns}"
    if contents.images and not contents.files(*_ROWS, ".xml"):
        return "there are images and no annotations: give them with --annotations PATH, or put a text beside each image"
    return f"the formats are {', '.join(sources.names())}; see docs/reference/annotations.md"


def _fitting(contents: Contents) -> list[str]:
    fitting = [name for name in sources.names() if sources.get(name).fits(contents)]
    return [name for name in fitting if not {*sources.get(name).yields_to} & {*fitting}]


def _opens(name: str, contents: Contents) -> bool:
    try:
        return next(iter(AnnotatedImages(sources.get(name)(contents))), None) is not None
    except (AnnotationError, OSError):
        return False


def _commands(path: Path, names: Sequence[str]) -> str:
    return ", or ".join(f"vistune generate {shlex.quote(str(path))} --source {name} --show" for name in names)
