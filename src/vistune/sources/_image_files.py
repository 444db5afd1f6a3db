"""The files of images: where a name leads, and the size of the picture as it is seen."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from vistune.errors import AnnotationError, DataError
from vistune.formats import IMAGE_ENDINGS
from vistune.image_files import ImagesFolder, is_file, open_content, open_image_file
from vistune.reading import unreadable
from vistune.records import Box
from vistune.sources._splits import is_annotations_folder

_ORIENTATION = 0x0112  # EXIF's tag


class Size(NamedTuple):
    """Width and height of an image as it is stored, and its EXIF orientation (1 to 8)."""

    width: int
    height: int
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels as the image is seen."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_size(file: Path | IO[bytes]) -> Size | None:
    """The size of an image file from its head, without decoding; None if unreadable."""
    try:
        opened = open_image_file(file, math.inf) if isinstance(file, Path) else open_content(file, math.inf)
        with opened as image:
            # Pillow decodes the whole of a PNG in search of EXIF data behind its pixels
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            orientation = exif.get(_ORIENTATION, 1)
            return Size(*image.size, orientation if orientation in range(1, 9) else 1)
    except (DataError, OSError, ValueError, SyntaxError):
        return None


def turn(box: Box, orientation: int) -> Box:
    """A box on the stored pixels as it lies on the upright image (the inverse of the camera's turn)."""
    corners = [_turned(x, y, orientation) for x, y in ((box.x1, box.y1), (box.x2, box.y2))]
    (x1, x2), (y1, y2) = (sorted(values) for values in zip(*corners, strict=True))
    return Box(box.category, x1, y1, x2, y2, crowd=box.crowd)


def _turned(x: float, y: float, orientation: int) -> tuple[float, float]:
    return {
        2: (1 - x, y), 3: (1 - x, 1 - y), 4: (x, 1 - y),
        5: (y, x), 6: (1 - y, x), 7: (1 - y, 1 - x), 8: (y, 1 - x),
    }.get(orientation, (x, y))  # fmt: skip


def image_files(folder: Path) -> Iterator[Path]:
    """The images below a folder, folder by folder, by name; hidden ones are skipped. Raises AnnotationError."""
    return _image_files(folder, set())


def _image_files(folder: Path, known: set[Path]) -> Iterator[Path]:
    """Of folders that are not `known` yet: links may lead in a circle."""
    if (real := folder.resolve()) in known:
        return
    known.add(real)
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error, AnnotationError) from None
    yield from (entry for entry in entries if entry.suffix.lower() in IMAGE_ENDINGS and entry.is_file())
    for entry in entries:
        if entry.is_dir():
            yield from _image_files(entry, known)


class ImageFinder:
    """Finds the file that a name in an annotation file means, below the folder `base`.

    A name is tried as it is written, then in each of `places`, then there without its first folders, one after the
    other: the folders of the machine that it was written on. Then the same with the name in another case, or with
    another ending (or none). `\\` separates folders, too. Two names never lead to one file, but for the exact one.
    """

    def __init__(self, base: Path, places: Sequence[Path] = (), *, allow_outside: bool = False) -> None:
        self.base, self._root, self._allow_outside = base, _absolute(base), allow_outside
        self._folder = ImagesFolder(base)
        self.outside = ""
        """A file outside of `base` that the last names lead to; "" if there is none."""
        self._places = [one for one in dict.fromkeys((*places, base)) if one.is_dir() and self._below(one)]
        self._names: dict[Path, dict[str, str]] = {}
        self._owners: dict[int, int] = {}  # the hash of a file that was guessed, and that of its name

    def find(self, names: Sequence[str]) -> Path | None:
        """The file of the first name that has one."""
        self.outside = ""
        spelled = [text for name in names for text in dict.fromkeys((name, name.replace("\\", "/"))) if text]
        return next((file for text in spelled if (file := self._exact(text))), None) or next(
            (file for text in spelled if (file := self._guess(text)) and self._owns(file, names)), None
        )

    def expected(self, name: str) -> Path:
        """Where the file should be that is missing: in the likeliest place, under its name without foreign folders."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        foreign = name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in parts
        place = next((place for place in self._places if not is_annotations_folder(place)), self.base)
        return place.joinpath(*(parts[-1:] if foreign else parts))

    def _exact(self, name: str) -> Path | None:
        folders = (Path(), *self._places) if not name.startswith("/") else (Path(),)
        found = (folder / name for folder in folders)
        return next((inside for file in found if is_file(file) and (inside := self._inside(file))), None)

    def _guess(self, name: str) -> Path | None:
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        tails = [parts[dropped:] for dropped in range(len(parts))]
        files = [place.joinpath(*tail) for tail in tails for place in self._places]
        found = next(filter(is_file, files), None) or next(filter(None, map(self._similar, files)), None)
        return self._inside(found) if found else None

    def _inside(self, file: Path) -> Path | None:
        """The file's path from `base`; None for one that is elsewhere, unless that is allowed."""
        below = self._below(file)
        if self._allow_outside:
            return below or self.base / os.path.relpath(_absolute(file), self._root)
        if below is not None and self._folder.holds(str(file)):
            return below
        self.outside = str(file)
        return None

    def _similar(self, file: Path) -> Path | None:
        """The only file beside it whose name differs in case or ending."""
        names = self._names.get(file.parent)
        if names is None:
            names = self._names[file.parent] = _by_name_and_stem(file.parent)
        stem = file.stem if file.suffix.lower() in IMAGE_ENDINGS else file.name
        found = names.get(file.name.lower()) or names.get(f"{stem.lower()}/")
        return file.with_name(found) if found else None

    def _owns(self, file: Path, names: Sequence[str]) -> bool:
        return self._owners.setdefault(hash(file), hash(names[0])) == hash(names[0])

    def _below(self, path: Path) -> Path | None:
        """The path as one below `base`, without `..`; None if it is elsewhere."""
        absolute = _absolute(path)
        if absolute == self._root or absolute.startswith(self._root.rstrip(os.sep) + os.sep):
            return self.base / os.path.relpath(absolute, self._root)
        return None


def _absolute(path: Path) -> str:
    """The path from the root without `..`; links are not followed, so that it stays below the folder it is given in."""
    return os.path.normpath(Path.cwd() / path)


def _by_name_and_stem(folder: Path) -> dict[str, str]:
    """The images of a folder by their name in lower case, and by stem and `/`; "" where several share it."""
    found: dict[str, str] = {}
    if os.path.isdir(folder):  # noqa: PTH112  # false for a name that is too long
        for name in sorted(entry.name for entry in folder.iterdir()):
            path = PurePosixPath(name)
            if path.suffix.lower() in IMAGE_ENDINGS:
                for key in (name.lower(), f"{path.stem.lower()}/"):
                    found[key] = "" if key in found else name
    return found
