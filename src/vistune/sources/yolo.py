"""YOLO's boxes: a text file for each image with `class cx cy w h` a line, in fractions of the image's size.

Polygons (`class x1 y1 x2 y2 x3 y3 …`) become the box around them; the keypoints after the box of a pose and the
confidence of a prediction are skipped. Images, labels and class names lie as data.yaml says, or in one of the usual
layouts. See https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, closest, fraction_box, image_files, no_split, read_text

_FORM = "a line is 'class cx cy width height', in fractions of the image's width and height"
_NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "names.txt", "labels/classes.txt")
_SPLIT = ("images/{split}", "{split}/images", "{split}")
"""The usual folders of a split's images."""
_NO_LABELS = ("classes.txt", "notes.txt", "README.txt")


@dataclass(frozen=True)
class _Layout:
    """The images of a split: in folders, or listed in text files. `names` are the classes' by number."""

    root: Path
    split: str
    places: tuple[Path, ...]
    names: Mapping[int, str]
    names_file: Path
    pose: bool = False

    def pairs(self) -> Iterator[tuple[Path, Path]]:
        """Every image with its label file; where there are only labels, the image is taken to be a `.jpg`."""
        for place in self.places:
            if place.is_file():  # a list of images
                for line in filter(None, map(str.strip, read_text(place).splitlines())):
                    image = place.parent / line
                    yield image, _label_of(image)
            elif place.is_dir() and any(image_files(place)):
                yield from ((image, _label_of(image)) for image in image_files(place))
            else:
                labels = _label_of(place / "x.jpg").parent
                for label in sorted(labels.rglob("*.txt")) if labels.is_dir() else ():
                    if label.name not in _NO_LABELS:
                        yield place / label.relative_to(labels).with_suffix(".jpg"), label


@sources.register("yolo")
class Yolo(Stream):
    """A folder with data.yaml or a list of class names, or data.yaml itself; `category_names` is a file of such names.

    An image with an empty label file, or none, has no objects.
    """

    needs_split = True

    def __init__(
        self, path: Path, split: str | None = None, *, on_error: OnError = stop, category_names: Path | None = None
    ) -> None:
        super().__init__(path, split, on_error=on_error)
        self._layout: _Layout = _find_layout(path, split or "train", category_names)
        self.images = self._layout.root

    @staticmethod
    def fits(path: Path) -> bool:
        if path.is_file():
            return path.suffix in (".yaml", ".yml") and isinstance(_settings(path).get("names"), list | dict)
        return path.is_dir() and (bool(_yaml_files(path)) or next(path.glob("**/labels/**/*.txt"), None) is not None)

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        count = found = 0
        for image, label in self._layout.pairs():
            count += 1
            has_label = label.is_file()
            found += has_label
            try:
                if not image.is_relative_to(self.images):
                    raise AnnotationError(f"the image {image} is not below {self.images}", where=str(self.path))
                name = image.relative_to(self.images).with_suffix("").as_posix()
                boxes = tuple(self._boxes(label)) if has_label else ()
                yield ImageRecord(name, image, 0, 0, (), boxes, str(label))
            except AnnotationError as error:
                on_error(error)
        if not found:
            what = f"none of the {count:,} images has a label file" if count else "there are no images and no labels"
            fix = "for images/a.jpg it is labels/a.txt"
            raise AnnotationError(what, where=f"{self.path}, split '{self._layout.split}'", fix=fix)

    def _boxes(self, label: Path) -> Iterator[Box]:
        for number, line in enumerate(read_text(label).splitlines(), 1):
            if line.strip():
                yield self._box(line.split(), f"{label}: line {number}")

    def _box(self, words: list[str], where: str) -> Box:
        try:
            number, values = int(float(words[0])), [float(word) for word in words[1:]]
        except ValueError:
            what = f"not all values are numbers: {' '.join(words)[:60]}"
            raise AnnotationError(what, where=where, fix=_FORM) from None
        if number not in self._layout.names:
            what = f"there is no name for the class {number}; {len(self._layout.names)} classes have names"
            raise AnnotationError(what, where=where, fix=f"add it to {self._layout.names_file}")
        if self._layout.pose:
            values = values[:4]
        if len(values) in (4, 5):
            cx, cy, width, height = values[:4]
            corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
        elif len(values) >= 6 and len(values) % 2 == 0:
            corners = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        else:
            raise AnnotationError(f"it has {len(words)} numbers", where=where, fix=_FORM)
        if not all(map(math.isfinite, corners)):
            raise AnnotationError("not all values are finite numbers", where=where, fix=_FORM)
        return fraction_box(self._layout.names[number], corners, where, _FORM)


def _label_of(image: Path) -> Path:
    """The label file: the last folder `images` of the path becomes `labels`; without one it is beside the image."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _find_layout(path: Path, split: str, names_file: Path | None) -> _Layout:
    """The layout of a folder, or of its data.yaml. Raises AnnotationError for what is missing."""
    settings = path if path.is_file() else next(iter(_yaml_files(path)), None)
    if settings and names_file is None:
        return _by_settings(settings, split)
    if path.is_file():
        raise AnnotationError("this is not a folder", where=str(path))
    found = [path / name for name in _NAME_FILES if (path / name).is_file()]
    if names_file is None and not found:
        fix = "add data.yaml with `names`, or classes.txt with a name a line, or give --category-names FILE"
        raise AnnotationError("the classes have no names", where=str(path), fix=fix)
    file = names_file or found[0]
    names = dict(enumerate(filter(None, map(str.strip, read_text(file).splitlines()))))
    place = next((one for one in (path / form.format(split=split) for form in _SPLIT) if _holds(one)), None)
    if place is None:
        splits = sorted({one.name for one in (*path.glob("images/*"), *path.glob("labels/*")) if one.is_dir()})
        flat = next((one for one in (path / "images", path) if _holds(one)), None)
        if splits or flat is None or split != "train":  # the split of a folder without splits
            raise no_split(split, splits, path)
        place = flat
    return _Layout(path, split, (place,), names, file)


def _holds(place: Path) -> bool:
    """Whether a folder holds images or labels itself, not only its sub-folders."""
    labels = _label_of(place / "x.jpg").parent
    found = place.is_dir() and any(entry.is_file() and entry.suffix != ".txt" for entry in place.iterdir())
    return found or (labels.is_dir() and any(label.name not in _NO_LABELS for label in labels.glob("*.txt")))


def _yaml_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.y*ml"), key=lambda file: (file.stem != "data", file.name))
    return [file for file in files if "names" in _settings(file)]


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise AnnotationError(f"not valid YAML: {' '.join(str(error).split())}", where=str(path)) from None
    return content if isinstance(content, dict) else {}


def _by_settings(file: Path, split: str) -> _Layout:
    settings = _settings(file)
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        fix = "names: [cat, dog], or names: {0: cat, 1: dog}"
        raise AnnotationError("'names' is not a list of class names", where=str(file), fix=fix)
    key = "val" if split == "valid" and "valid" not in settings else split
    if not settings.get(key):
        known = [name for name in ("train", "val", "test", "valid") if settings.get(name)]
        raise no_split(split, known, file)
    root = (file.parent / str(settings.get("path") or "")).resolve()
    if not root.is_dir():
        root = file.parent.resolve()  # `path` is often that of another machine
    given = settings[key] if isinstance(settings[key], list) else [settings[key]]
    places = tuple(_place(root, file, str(one)) for one in given)
    root = Path(os.path.commonpath((root, *(place.parent if place.is_file() else place for place in places))))
    return _Layout(root, split, places, {number: str(name) for number, name in names.items()}, file,
                  "kpt_shape" in settings)  # fmt: skip


def _place(root: Path, file: Path, name: str) -> Path:
    """The folder or list that data.yaml names; Roboflow's files say `../train/images` for `train/images`."""
    for one in (root / name, file.parent / name, file.parent / name.removeprefix("../")):
        if one.exists() or _label_of(one / "x.jpg").parent.is_dir():
            return one.resolve()
    where = str(root / name)
    raise AnnotationError("there is no such folder or list of images", where=where, fix=closest(root / name))
