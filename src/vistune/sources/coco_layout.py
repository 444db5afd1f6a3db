"""Where COCO's annotation files and images lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vistune.errors import AnnotationError, did_you_mean
from vistune.sources.stream import closest


class CocoFiles(NamedTuple):
    """The files of a split; one of captions and instances may be missing.

    `images` is where the images belong; `there` says whether that folder exists.
    """

    captions: Path | None
    instances: Path | None
    images: Path
    there: bool = True


def find_coco(folder: Path, split: str) -> CocoFiles:
    """The files of `split`, like `train` or `train2014`.

    Annotations are sought in `folder` and `folder/annotations`, images in `folder/<split>`,
    `folder/images/<split>` and `folder/images`. Raises AnnotationError for annotations that are not there.
    """
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.exists() else "there is no such folder"
        raise AnnotationError(what, where=str(folder), fix=closest(folder))
    found = annotation_files(folder)
    if not found:
        fix = "COCO's files are called captions_<split>.json and instances_<split>.json"
        raise AnnotationError("no annotation files in COCO's format are here", where=str(folder), fix=fix)
    name = _split(split, found, folder)
    places = (folder / name, folder / "images" / name, folder / "images")
    images = next((place for place in places if place.is_dir()), None)
    return CocoFiles(found[name].get("captions"), found[name].get("instances"), images or places[0], images is not None)


def annotation_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The captions and instances files in a folder and its `annotations`, by split."""
    found: dict[str, dict[str, Path]] = {}
    for path in [*sorted(folder.glob("*.json")), *sorted(folder.glob("annotations/*.json"))]:
        if match := re.fullmatch(r"(captions|instances)_(.+)", path.stem):
            found.setdefault(match[2], {})[match[1]] = path
    return found


def _split(split: str, found: Iterable[str], folder: Path) -> str:
    """The split of that name, or the only one that adds a year to it."""
    if split in found:
        return split
    dated = sorted(name for name in found if re.fullmatch(re.escape(split) + r"\d{4}", name))
    if len(dated) == 1:
        return dated[0]
    fix = f"one of: {', '.join(dated)}" if dated else did_you_mean(split, found)
    raise AnnotationError(f"there is no split '{split}'", where=str(folder), fix=fix)
