"""Folders of images with a text of the same name beside each: `a.jpg` and `a.txt`, `a.caption` or `a.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, image_files, no_split, read_text
from vistune.sources._rows import json_captions, text_captions

_TEXTS = (".txt", ".caption", ".json")
_FIRST_IMAGES = 200
_NUMBERS = frozenset("0123456789.eE+-")


@sources.register("sidecar")
class Sidecar(Stream):
    """The images below a folder, or below its sub-folder `split`, each with the captions in the file of the same name.

    A text has one caption a line; a `.json` has them under a usual name, or is a list of them.
    """

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        super().__init__(path, split, on_error=on_error)
        if not path.is_dir():
            raise AnnotationError("this is a file, not a folder with images", where=str(path))
        self.images, self._folder = path, path / (split or "")
        if not self._folder.is_dir():
            raise no_split(split, [entry.name for entry in path.iterdir() if entry.is_dir()], path)
        if next(image_files(self._folder), None) is None:
            raise AnnotationError("there are no images in this folder", where=str(self._folder))

    @staticmethod
    def fits(path: Path) -> bool:
        if not path.is_dir():
            return False
        some = (image for _, image in zip(range(_FIRST_IMAGES), image_files(path), strict=False))
        texts = (text for image in some if (text := _text(image)))
        return any(not _holds_numbers(text) for text in texts) and not (path / "labels").is_dir()

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        count = found = 0
        for image in image_files(self._folder):
            count += 1
            file = _text(image)
            found += file is not None
            name = image.relative_to(self.images).with_suffix("").as_posix()
            try:
                captions = _captions(file) if file else ()
                yield ImageRecord(name, image, 0, 0, captions, (), str(file or image))
            except AnnotationError as error:
                on_error(error)
        if not found:
            fix = f"put a text with the image's name beside each, ending in {', '.join(_TEXTS)}"
            raise AnnotationError(f"none of its {count:,} images has a text", where=str(self._folder), fix=fix)


def _text(image: Path) -> Path | None:
    """The text beside an image: `a.txt` for `a.jpg`, else `a.jpg.txt`."""
    files = [image.with_suffix(ending) for ending in _TEXTS] + [Path(f"{image}{ending}") for ending in _TEXTS]
    return next((file for file in files if file.is_file()), None)


def _holds_numbers(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return _only_numbers(text.read(2**16))


def _only_numbers(text: str) -> bool:
    return any(map(str.isdigit, text)) and _NUMBERS.issuperset("".join(text.split()))


def _captions(file: Path) -> tuple[str, ...]:
    text = read_text(file)
    if _only_numbers(text):
        fix = "labels of YOLO are read by --source yolo"
        raise AnnotationError("the text holds numbers only, no caption", where=str(file), fix=fix)
    return json_captions(text, str(file)) if file.suffix == ".json" else text_captions(text)
