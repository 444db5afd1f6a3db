"""Where YOLO's images, labels and class names lie: as data.yaml or obj.data says, or in one of the usual layouts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.reading import read_yaml
from vistune.sources._contents import Contents
from vistune.sources._helpers import closest, read_names, read_text
from vistune.sources._image_files import image_files
from vistune.sources._splits import choose_split, is_annotations_folder, no_split

_NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "names.txt", "labels/classes.txt", "_darknet.labels")
_SPLIT = ("images/{split}", "{split}/images", "{split}")
"""The usual folders of a split's images."""
NO_LABELS = ("classes.txt", "notes.txt", "README.txt", "labels.txt", "names.txt", "README.dataset.txt",
             "README.roboflow.txt", "train.txt", "val.txt", "test.txt")  # fmt: skip
"""Texts that are no labels."""
_SPLITS = ("train", "val", "valid", "test")


@dataclass(frozen=True)
class Layout:
    """The images of a split: in folders, or listed in text files. `names` are the classes' by number.

    `labels` is the folder of the labels where the images are elsewhere.
    """

    root: Path
    split: str
    places: tuple[Path, ...]
    names: Mapping[int, str]
    names_file: Path
    pose: bool = False
    labels: Path | None = None

    def pairs(self) -> Iterator[tuple[Path, Path]]:
        """Every image with its label file; where there are only labels, the image is taken to be a `.jpg`."""
        for place in self.places:
            if place.is_file():  # a list of images
                yield from ((image, _label_of(image)) for image in _listed(place, self.root))
            elif place.is_dir() and any(image_files(place)):
                yield from ((image, self._label(image, place)) for image in image_files(place))
            else:
                labels = self.labels or _label_of(place / "x.jpg").parent
                for label in sorted(labels.rglob("*.txt")) if labels.is_dir() else ():
                    if label.name not in NO_LABELS:
                        yield place / label.relative_to(labels).with_suffix(".jpg"), label

    def _label(self, image: Path, place: Path) -> Path:
        return (self.labels / image.relative_to(place)).with_suffix(".txt") if self.labels else _label_of(image)


def find_layout(
    contents: Contents, split: str | None, default: str, images: Path | None, names_file: Path | None
) -> Layout:
    """The layout of a folder, or of its data.yaml or obj.data. Raises AnnotationError for what is missing."""
    path = contents.path
    file = path if path.is_file() else next(iter(settings_files(contents)), None)
    if path.is_file() and not is_settings(path):
        fix = "name the data set's folder, or its data.yaml"
        raise AnnotationError("this is no folder, data.yaml or obj.data", where=str(path), fix=fix)
    settings = _settings(file) if file else {}
    if file and names_file is None and images is None and any(map(settings.get, _SPLITS)):
        return _by_settings(file, split, default)
    root = file.parent if file else _inner(contents)
    names, names_file = _names(root, names_file, file)
    chosen, place = _usual_places(root, split, default)
    if images is None:
        return Layout(root, chosen, (place,), names, names_file)
    labels = _label_of(place / "x.jpg").parent
    usual: tuple[str | Path, ...] = (*(form.format(split=chosen) for form in _SPLIT), place.relative_to(root))
    inside = next((images / one for one in usual if (images / one).is_dir()), images)
    return Layout(images, chosen, (inside,), names, names_file, labels=labels if _has_labels(labels) else place)


def settings_files(contents: Contents) -> list[Path]:
    """The files like data.yaml or obj.data in a folder, or without one in its only sub-folder that has some."""
    if contents.path.is_file():
        return [contents.path] if is_settings(contents.path) else []
    found = [file for file in contents.some(".yaml", ".yml", ".data") if is_settings(file)]
    top = [file for file in found if file.parent == contents.path]
    same = found if len({file.parent for file in found}) == 1 else []
    return sorted(top or same, key=lambda file: (file.stem != "data", file.name))


def _inner(contents: Contents) -> Path:
    """The folder, or without a list of names in it its only sub-folder that has one."""
    lists = [file for file in contents.files(".txt", ".names", ".labels") if file.name in _NAME_FILES]
    folders = {file.parent.parent if is_annotations_folder(file.parent) else file.parent for file in lists}
    return folders.pop() if len(folders) == 1 else contents.path


def is_settings(file: Path) -> bool:
    """Whether a file names classes, as data.yaml and obj.data do."""
    if file.suffix not in (".yaml", ".yml", ".data"):
        return False
    try:
        settings = _settings(file)
    except AnnotationError:
        return False
    has_images = any(settings.get(key) for key in (*_SPLITS, "path"))
    return isinstance(settings.get("names"), list | dict) or (isinstance(settings.get("names"), str) and has_images)


def _settings(path: Path) -> dict[str, Any]:
    if path.suffix == ".data":  # Darknet's: `names = data/obj.names`
        pairs = (line.partition("=") for line in read_text(path).splitlines() if "=" in line)
        return {key.strip(): value.strip() for key, _, value in pairs}
    content = read_yaml(path, AnnotationError)
    return content if isinstance(content, dict) else {}


def _by_settings(file: Path, split: str | None, default: str) -> Layout:
    settings = _settings(file)
    root = Path(os.path.realpath(file.parent / str(settings.get("path") or "")))  # raises nothing for links in a circle
    if not root.is_dir():
        root = file.parent.resolve()  # `path` is often that of another machine
    names = _class_names(settings.get("names"), root, file)
    known = [name for name in _SPLITS if settings.get(name)]
    key = choose_split(split, known, file, default)
    given = settings[key] if isinstance(settings[key], list) else [settings[key]]
    places = tuple(_place(root, file, str(one)) for one in given)
    root = Path(os.path.commonpath((root, *(place.parent if place.is_file() else place for place in places))))
    return Layout(root, key, places, names, file, "kpt_shape" in settings)


def _class_names(names: Any, root: Path, file: Path) -> dict[int, str]:
    """A list of names, names by number, or the path of a file with a name a line."""
    if isinstance(names, str):
        return read_names(_place(root, file, names))
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict) and all(str(key).isdigit() for key in names):
        if empty := [key for key, name in names.items() if name is None or not str(name).strip()]:
            fix = "write a name for each class, in quotes if YAML takes it for something else: 'null'"
            raise AnnotationError(f"the class {empty[0]} has no name", where=str(file), fix=fix)
        return {int(key): str(name) for key, name in names.items()}
    fix = "names: [cat, dog], or names: {0: cat, 1: dog}, or a file with a name a line"
    raise AnnotationError("'names' is not a list of class names", where=str(file), fix=fix)


def _place(root: Path, file: Path, name: str) -> Path:
    """The folder or file that data.yaml names; Roboflow's files say `../train/images` for `train/images`.

    Darknet's start from the folder of its program, as in `data/train.txt`.
    """
    tails = _tails(name)
    for one in (root / tails[0], *(file.parent / tail for tail in tails)):
        if one.exists() or _has_labels(_label_of(one / "x.jpg").parent):
            return one.resolve()
    where = str(root / name)
    raise AnnotationError("there is no such folder or list of images", where=where, fix=closest(root / name))


def _listed(file: Path, root: Path) -> Iterator[Path]:
    """The images of a list; their paths start from its folder, from the data set's, or further up."""
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        places = [folder / tail for tail in _tails(line) for folder in (file.parent, root)]
        yield next((one for one in places if one.is_file() or _label_of(one).is_file()), places[0])


def _tails(name: str) -> list[str]:
    """A path, and what is left of it without its first folders."""
    parts = name.replace("\\", "/").split("/")
    return ["/".join(parts[dropped:]) for dropped in range(len(parts))]


def _label_of(image: Path) -> Path:
    """The label file: the last folder `images` of the path becomes `labels`; without one it is beside the image."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _names(root: Path, given: Path | None, settings: Path | None) -> tuple[dict[int, str], Path]:
    if given is None and settings:
        return _class_names(_settings(settings).get("names"), root, settings), settings
    folders = (root, root.parent)
    found = given or next((one for one in (at / name for at in folders for name in _NAME_FILES) if one.is_file()), None)
    if found is None:
        fix = "write them to classes.txt there, one a line from the class 0, or give --category-names FILE"
        raise AnnotationError("the classes have no names", where=str(root), fix=fix)
    return read_names(found), found


def _usual_places(path: Path, split: str | None, default: str) -> tuple[str, Path]:
    """The split and the folder of its images, or of its labels, without a file that says so."""
    splits = {one.name for pattern in ("images/*", "labels/*") for one in path.glob(pattern) if one.is_dir()}
    splits |= {one.parent.name for one in path.glob("*/images")} | {one.parent.name for one in path.glob("*/labels")}
    splits |= {one.name for one in path.glob("*") if one.name in _SPLITS and one.is_dir()}
    if _holds(path / "images"):  # its sub-folders are no splits
        splits &= {*_SPLITS}
    if splits:
        chosen = choose_split(split, splits, path, default)
        places = [path / form.format(split=chosen) for form in _SPLIT]
        if place := next(filter(_holds, places), None):
            return chosen, place
    flat = next((one for one in (path / "images", path / "obj_train_data", path) if _holds(one)), None)
    if splits or flat is None or split not in (None, "train"):
        raise no_split(split or default, sorted(splits), path)
    return "train", flat


def _holds(place: Path) -> bool:
    """Whether a folder holds images or labels itself, not only its sub-folders."""
    found = place.is_dir() and any(entry.is_file() and entry.suffix != ".txt" for entry in place.iterdir())
    return found or _has_labels(_label_of(place / "x.jpg").parent)


def _has_labels(folder: Path) -> bool:
    return folder.is_dir() and any(label.name not in NO_LABELS for label in folder.glob("*.txt"))
