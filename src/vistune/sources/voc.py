"""Pascal VOC's annotations: an XML file for each image, boxes in pixels.

See http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 3. LabelImg, Roboflow, CVAT and the
old LabelMe write it, too; roLabelImg adds turned boxes. In VOC itself pixels count from 1, and the last one is within.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.reading import read_xml
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, category_name, closest, missing, read_text, turned_box
from vistune.sources._reading import ReadingEach
from vistune.sources._splits import no_split

_FORM = "xmin, ymin, xmax, ymax are pixels within the image"
_FROM_ONE = ("voc", "roboflow")
"""Words in the name of the database of those whose pixels count from 1; other tools count from 0."""


@sources.register("voc")
class Voc(ReadingEach):
    """A folder below which there are XML files, in any of the usual folders or beside their images, or one XML file.

    `split` is a list in ImageSets/Main, or the folder of the files (`train/`).
    """

    endings = (".xml",)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        head = contents.xml(file)
        return head.root == "annotation" and bool(head.tags & {"filename", "object", "size", "folder"})

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        lists = [file for file in self.contents.files(".txt") if file.parts[-3:-1] == ("ImageSets", "Main")]
        if split is None or not lists:
            return super()._choose(split, default)
        files = {(file.parent.parent, file.stem): file for file in self._own_files(self.contents)}
        chosen = [file for file in lists if file.stem == split]
        if not chosen:
            raise no_split(split, sorted({file.stem for file in lists}), self.path)
        return [files.get(key) or _not_there(key, files, one) for one in chosen for key in _listed(one)], split

    def _draft(self, file: Path) -> Draft:
        if not file.exists():
            raise missing(file)
        root = read_xml(file, AnnotationError)
        if root.tag != "annotation":
            what = f"its root is <{root.tag}>, and VOC's is <annotation>"
            raise AnnotationError(what, where=str(file), fix="move the file out of the folder")
        database = (root.findtext("source/database") or "").lower()
        first = int(any(word in database for word in _FROM_ONE))
        objects = [(one, f"{file}: object {number}") for number, one in enumerate(root.findall("object"))]
        boxes = [_box(one, first, where) for one, where in objects if one.findtext("deleted") != "1"]
        names = self._names(file, (root.findtext("filename") or f"{file.stem}.jpg").strip())
        size = _pixels(root, "size/width", "imagesize/ncols"), _pixels(root, "size/height", "imagesize/nrows")
        return Draft(self._id(file), names, str(file), boxes, (), *size)


def _listed(file: Path) -> Iterator[tuple[Path, str]]:
    """The data set's folder and the name of each line of a list of images."""
    for line in read_text(file).splitlines():
        if line.strip():
            yield file.parent.parent.parent, line.split()[0]


def _not_there(key: tuple[Path, str], files: dict[tuple[Path, str], Path], listed: Path) -> Path:
    folder = next((file.parent for (root, _), file in files.items() if root == key[0]), key[0])
    file = folder / f"{key[1]}.xml"
    fix = f"{closest(file)} the name '{key[1]}' is in {listed}".strip()
    raise AnnotationError("there is no such file", where=str(file), fix=fix)


def _pixels(root: ET.Element, *paths: str) -> int:
    """The image's width or height; 0 where the XML has none, as some tools write."""
    try:
        return max(0, int(float(next(filter(None, map(root.findtext, paths)), 0))))
    except (ValueError, OverflowError):
        return 0


def _box(element: ET.Element, first: int, where: str) -> RawBox:
    try:
        corners = _corners(element, first)
    except (ValueError, TypeError):
        raise AnnotationError("'bndbox' does not have four numbers", where=where, fix=_FORM) from None
    return RawBox(category_name(element.findtext("name"), where), *corners, where)


def _corners(element: ET.Element, first: int) -> tuple[float, float, float, float]:
    """Of the box or around the polygon; `first` is the number of the first pixel. ValueError for what is no number."""
    for box in (*element.findall("bndbox"), *element.findall("segm/box")):
        x1, y1, x2, y2 = (_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        return x1 - first, y1 - first, x2, y2
    if (turned := element.find("robndbox")) is not None:
        cx, cy, width, height, angle = (_number(turned, name) for name in ("cx", "cy", "w", "h", "angle"))
        box_ = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        return turned_box(box_, math.degrees(angle), (cx, cy))
    return box_around(*_polygon(element))


def _polygon(element: ET.Element) -> tuple[list[float], list[float]]:
    """The points of a polygon: `pt/x` and `pt/y`, or `x1`, `y1`, `x2`, …"""
    polygon = element.find("polygon")
    if polygon is None:
        raise ValueError
    if points := polygon.findall("pt"):
        return [_number(point, "x") for point in points], [_number(point, "y") for point in points]
    values = [(child.tag[:1], float(child.text or "")) for child in polygon]
    return [value for axis, value in values if axis == "x"], [value for axis, value in values if axis == "y"]


def _number(element: ET.Element, name: str) -> float:
    number = float(element.findtext(name) or "missing")
    if not math.isfinite(number):
        raise ValueError(name)
    return number
