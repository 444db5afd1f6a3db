"""The splits of a data set by the names of its files and folders, and the folders where its images may be."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from vistune.errors import AnnotationError, did_you_mean

_NAME = re.compile(r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?)(?:[-_]?\d{4})?(?![a-z0-9])", re.I)
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
_ANNOTATIONS = ("annotations", "annotation", "annots", "annot", "ann", "labels", "label", "labeltxt", "label_2",
                "labels_json")  # fmt: skip
_IMAGES = ("images", "Images", "image", "imgs", "img", "data", "JPEGImages", "photos", "image_2", "Flicker8k_Dataset",
           "flickr30k_images")  # fmt: skip
"""The usual folders of annotations, and of images."""


def split_of(file: Path, root: Path) -> str:
    """The split that a file's name, or the folders from `root` to it, say: `instances_train2017` -> train2017."""
    parts = file.relative_to(root).parts if file != root else (file.name,)
    for part in (file.stem, *reversed(parts[:-1])):
        if found := _NAME.search(part):
            return found[0]
    return ""


def choose_split(split: str | None, known: Collection[str], where: Path, default: str = "train") -> str:
    """The one of `known` that `split` names: itself, or with a year, or as `val` is `valid`.

    Without `split` the one that `default` names, or the only one; but of training images no test is made. Raises
    AnnotationError.
    """
    if split is None and len(known) == 1 and (default == "train" or "" in known):
        return next(iter(known))
    wanted = split or default
    if wanted in known:
        return wanted
    alike = sorted(name for name in known if name and _canonical(name) == _canonical(wanted))
    if len(alike) == 1:
        return alike[0]
    named = sorted(filter(None, known))
    if not named:
        raise no_split(split, [], where)
    if alike or split is None:
        fix = f"one of: {', '.join(alike or named)}"
        raise AnnotationError(f"there is no split '{wanted}'", where=str(where), fix=f"--split NAME with {fix}")
    raise no_split(split, named, where)


def no_split(split: str | None, known: list[str], where: Path) -> AnnotationError:
    """The error for a split that does not exist."""
    fix = did_you_mean(split or "", known) if known else "leave --split out: there are no splits"
    return AnnotationError(f"there is no split '{split}'", where=str(where), fix=fix)


def data_root(path: Path) -> Path:
    """The folder of a data set whose annotations are at `path`, which may be a file or their folder."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if is_annotations_folder(folder) else folder


def is_annotations_folder(folder: Path) -> bool:
    """Whether a folder has a usual name of those that hold annotations only."""
    return folder.name.lower() in _ANNOTATIONS


def image_places(root: Path, folders: Iterable[Path] = (), split: str = "") -> tuple[Path, ...]:
    """The folders where images of a split may be: in or beside the annotations' `folders`, or in `root`."""
    names = [form for name in _IMAGES for form in ((f"{name}/{split}", f"{split}/{name}") if split else ())]
    names += [split, *_IMAGES] if split else _IMAGES
    bases = dict.fromkeys((*folders, *(folder.parent for folder in folders if folder != root), root))
    inside = [base for base in bases if base.is_relative_to(root)]
    found = [base / name for base in inside for name in names if (base / name).is_dir()]
    return tuple(dict.fromkeys((*found, *inside)))


def _canonical(name: str) -> str:
    plain = re.sub(r"[-_]?\d{4}$", "", name.lower())
    return _ALIASES.get(plain, plain)
