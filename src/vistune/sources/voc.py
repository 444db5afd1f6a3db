"""Pascal VOC's annotations: an XML file for each image, boxes in pixels that count from 1.

See http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 3; labelImg writes them, too.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, closest, fraction_box, image_size, no_split, read_text

_FORM = "xmin, ymin, xmax, ymax are pixels within the image, from 1"
_IMAGES = ("JPEGImages", "images", "")


@sources.register("voc")
class Voc(Stream):
    """A folder with Annotations/*.xml, or with the XML files themselves; ImageSets/Main/<split>.txt lists a split."""

    def __init__(self, path: Path, split: str | None = None, *, on_error: OnError = stop) -> None:
        super().__init__(path, split, on_error=on_error)
        self._folder = path / "Annotations" if (path / "Annotations").is_dir() else path
        if not path.is_dir() or next(self._folder.glob("*.xml"), None) is None:
            raise AnnotationError("there are no XML files of Pascal VOC", where=str(self._folder))
        self._list = path / "ImageSets" / "Main" / f"{split}.txt" if split else None
        if self._list and not self._list.is_file():
            raise no_split(split, sorted(file.stem for file in self._list.parent.glob("*.txt")), path)
        self.images = path
        self._images = next(path / name for name in _IMAGES if (path / name).is_dir())

    @staticmethod
    def fits(path: Path) -> bool:
        file = next(iter([*path.glob("Annotations/*.xml")] or path.glob("*.xml")), None) if path.is_dir() else None
        return file is not None and b"<annotation" in file.read_bytes()[:2000]

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        for file in self._files():
            try:
                yield self._record(file)
            except AnnotationError as error:
                on_error(error)

    def _files(self) -> Iterator[Path]:
        if self._list is None:
            yield from sorted(self._folder.glob("*.xml"))
            return
        for line in read_text(self._list).splitlines():
            if line.strip():
                yield self._folder / f"{line.split()[0]}.xml"

    def _record(self, file: Path) -> ImageRecord:
        try:
            root = ET.parse(file).getroot()
        except FileNotFoundError:
            fix = f"{closest(file)} the name '{file.stem}' is in {self._list}".strip()
            raise AnnotationError("there is no such file", where=str(file), fix=fix) from None
        except (ET.ParseError, OSError, ValueError) as error:
            raise AnnotationError(f"not valid XML: {error}", where=str(file)) from None
        name = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2] or f"{file.stem}.jpg"
        image = self._images / name
        objects = root.findall("object")
        size = _size(root, image, file) if objects else (0, 0)
        boxes = tuple(_box(element, size, f"{file}: object {number}") for number, element in enumerate(objects))
        return ImageRecord(file.stem, image, *size, (), boxes, str(file))


def _size(root: ET.Element, image: Path, file: Path) -> tuple[int, int]:
    """Width and height in pixels of the XML, or of the image file where it has none (some tools write 0)."""
    try:
        size = int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
    except ValueError:
        size = (0, 0)
    if min(size) < 1:
        size = image_size(image) or (0, 0)
    if min(size) < 1:
        fix = f"write it into the XML, or put the image at {image}"
        raise AnnotationError("the image's size is not known", where=str(file), fix=fix)
    return size


def _box(element: ET.Element, size: tuple[int, int], where: str) -> Box:
    try:
        x1, y1, x2, y2 = (
            float(element.findtext(f"bndbox/{side}") or "missing") for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        raise AnnotationError("'bndbox' does not have four numbers", where=where, fix=_FORM) from None
    width, height = size
    corners = [(x1 - 1) / width, (y1 - 1) / height, x2 / width, y2 / height]
    # tools that count pixels from 0 are off by one
    return fraction_box(element.findtext("name"), corners, where, _FORM, excess=max(0.01, 1.01 / min(size)))
