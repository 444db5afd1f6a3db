"""Folders of images with a text of the same name beside each: `a.jpg` and `a.txt`, `a.caption` or `a.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._helpers import read_text
from vistune.sources._image_files import image_files
from vistune.sources._reading import Source
from vistune.sources._rows import json_captions, text_captions
from vistune.sources._splits import image_places, no_split

_TEXTS = (".txt", ".caption", ".json")
_FIRST_IMAGES = 200
_NUMBERS = frozenset("0123456789.eE+-")


@sources.register("sidecar")
class Sidecar(Source):
    """The images below a folder, or below its sub-folder `split`, each with the captions in the file of the same name.

    A text has one caption a line; a `.json` has them under a usual name, or is a list of them. The texts are beside
    the images, or in the same place of another folder.
    """

    yields_to: ClassVar[tuple[str, ...]] = ("labelme", "yolo", "img2dataset", "kitti", "dota", "coco")

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train",  # noqa: ARG002
        images: Path | None = None,
    ) -> None:  # fmt: skip
        path = contents.path
        if not path.is_dir():
            raise AnnotationError(
                "this is a file, not a folder with images", where=str(path), fix="name the folder of the images"
            )
        self._texts = path / (split or "")
        if not self._texts.is_dir():
            raise no_split(split, [entry.name for entry in path.iterdir() if entry.is_dir()], path)
        self.images = images or path
        inside = self.images / (split or "")
        self._folder = inside if inside.is_dir() else self.images
        self.places = image_places(self.images)
        if next(image_files(self._folder), None) is None:
            raise AnnotationError(
                "there are no images in this folder",
                where=str(self._folder),
                fix="name the folder of the images with --images",
            )

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        texts = [text for image in contents.images[:_FIRST_IMAGES] if (text := _text(image))]
        return any(_is_captions(text, contents) for text in texts)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        count = found = 0
        for image in image_files(self._folder):
            count += 1
            inside = image.relative_to(self._folder)
            file = _text(image) or _text(self._texts / inside)
            found += file is not None
            name = image.relative_to(self.images).with_suffix("").as_posix()
            try:
                yield Draft(name, (str(image),), str(file or image), captions=_captions(file) if file else ())
            except AnnotationError as error:
                on_error(error)
        if not found:
            fix = f"put a text with the image's name beside each, ending in {', '.join(_TEXTS)}"
            raise AnnotationError(f"none of its {count:,} images has a text", where=str(self._folder), fix=fix)


def _text(image: Path) -> Path | None:
    """The text beside an image: `a.txt` for `a.jpg`, else `a.jpg.txt`."""
    files = [image.with_suffix(ending) for ending in _TEXTS] + [Path(f"{image}{ending}") for ending in _TEXTS]
    return next((file for file in files if file.is_file()), None)


def _is_captions(file: Path, contents: Contents) -> bool:
    if file.suffix == ".json":
        head = contents.json(file)
        return head.kind == "list" or (head.kind == "object" and not {"shapes", "annotations"} & head.members.keys())
    lines = contents.lines(file)
    return bool(lines) and not _only_numbers("\n".join(lines))


def _only_numbers(text: str) -> bool:
    return any(map(str.isdigit, text)) and _NUMBERS.issuperset("".join(text.split()))


def _captions(file: Path) -> tuple[str, ...]:
    text = read_text(file)
    if _only_numbers(text):
        fix = "labels of YOLO are read by --source yolo"
        raise AnnotationError("the text holds numbers only, no caption", where=str(file), fix=fix)
    return json_captions(text, str(file)) if file.suffix == ".json" else text_captions(text)
