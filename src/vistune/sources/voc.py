"""Pascal VOC's annotations: an XML file for each image, boxes in pixels that count from 1.

See http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 3. LabelImg, Roboflow, CVAT and the
old LabelMe write it, too; roLabelImg adds turned boxes.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, category_name, closest, read_text
from vistune.sources._reading import Reading, each
from vistune.sources._splits import no_split

_FORM = "xmin, ymin, xmax, ymax are pixels within the image, from 1"
_FIRST = 20


@sources.register("voc")
class Voc(Reading):
    """A folder below which there are XML files, in any of the usual folders or beside their images, or one XML file.

    `split` is a list in ImageSets/Main, or the folder of the files (`train/`); without it every file is read.
    """

    _picks_split = False

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        return any(_is_voc(contents, file) for file in contents.files(".xml")[:_FIRST])

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        files = contents.files(".xml")
        return files if any(_is_voc(contents, file) for file in files[:_FIRST]) else []

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        lists = [file for file in self.contents.files(".txt") if file.parts[-3:-1] == ("ImageSets", "Main")]
        if split is None or not lists:
            return super()._choose(split, default)
        files = {(file.parent.parent, file.stem): file for file in self._own_files(self.contents)}
        chosen = [file for file in lists if file.stem == split]
        if not chosen:
            raise no_split(split, sorted({file.stem for file in lists}), self.path)
        return [files.get(key) or _not_there(key, files, one) for one in chosen for key in _listed(one)], split

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        return each(self._files, self._draft, on_error)

    def _draft(self, file: Path) -> Draft:
        try:
            root = ET.parse(file).getroot()
        except FileNotFoundError:
            raise AnnotationError("there is no such file", where=str(file), fix=closest(file)) from None
        except (ET.ParseError, OSError, ValueError) as error:
            raise AnnotationError(f"not valid XML: {error}", where=str(file)) from None
        if root.tag != "annotation":
            what = f"its root is <{root.tag}>, and VOC's is <annotation>"
            raise AnnotationError(what, where=str(file), fix="move the file out of the folder")
        boxes = [_box(element, f"{file}: object {number}") for number, element in enumerate(root.findall("object"))]
        names = ((root.findtext("filename") or "").strip(), f"{file.stem}.jpg")
        return Draft(
            self._id(file), tuple(filter(None, names)), str(file), boxes,
            width=_pixels(root, "width"), height=_pixels(root, "height"),
        )  # fmt: skip

    def _id(self, file: Path) -> str:
        """The file's name; with its folders where there are several."""
        if len({one.parent for one in (self._files[0], self._files[-1], file)}) == 1:
            return file.stem
        return file.relative_to(self.path).with_suffix("").as_posix()


def _is_voc(contents: Contents, file: Path) -> bool:
    head = contents.xml(file)
    return head.root == "annotation" and bool(head.tags & {"filename", "object", "size", "folder"})


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


def _pixels(root: ET.Element, side: str) -> int:
    """The image's width or height; 0 where the XML has none, as some tools write."""
    try:
        return max(0, int(float(root.findtext(f"size/{side}") or 0)))
    except (ValueError, OverflowError):
        return 0


def _box(element: ET.Element, where: str) -> RawBox:
    try:
        x1, y1, x2, y2 = _corners(element)
    except (ValueError, TypeError):
        raise AnnotationError("'bndbox' does not have four numbers", where=where, fix=_FORM) from None
    return RawBox(category_name(element.findtext("name"), where), x1, y1, x2, y2, where)


def _corners(element: ET.Element) -> tuple[float, float, float, float]:
    """Pixels from 0, of the box or around the polygon. Raises ValueError and TypeError for what is no number."""
    if (box := element.find("bndbox")) is not None:
        x1, y1, x2, y2 = (_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        return x1 - 1, y1 - 1, x2, y2
    if (turned := element.find("robndbox")) is not None:
        cx, cy, width, height, angle = (_number(turned, name) for name in ("cx", "cy", "w", "h", "angle"))
        across, down = abs(math.cos(angle)), abs(math.sin(angle))
        half_x, half_y = (width * across + height * down) / 2, (width * down + height * across) / 2
        return cx - half_x, cy - half_y, cx + half_x, cy + half_y
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
