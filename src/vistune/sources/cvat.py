"""CVAT's own XML, "CVAT for images 1.1": all images of a task in one file, with boxes, polygons, ellipses and masks.

See https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from itertools import accumulate
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.reading import not_xml, open_file
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, turned_box
from vistune.sources._reading import Reading, each
from vistune.sources._rows import id_of
from vistune.sources._splits import choose_split

_WITHOUT_AREA = ("attribute", "tag", "points")
_VIDEO = "export the task again as 'CVAT for images 1.1': frames of a video have no names"


@sources.register("cvat")
class Cvat(Reading):
    """An XML file, or a folder with such files; `split` is the subset of the images of a project."""

    endings = (".xml",)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        head = contents.xml(file)
        return head.root == "annotations" and bool(head.tags & {"meta", "image", "version"})

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        files = self._own_files(self.contents)
        subsets = {image.get("subset", "") for file in files for image in _images(file)} if split else {""}
        if split is None or subsets == {""}:
            return super()._choose(split, default)
        return files, choose_split(split, subsets, self.path)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            yield from each(_images(file), lambda image, file=file: self._draft(image, file), on_error)  # type: ignore[misc]

    def _draft(self, image: ET.Element, file: Path) -> Draft | None:
        name = image.get("name", "")
        where = f"{file}: image {image.get('id', name)}"
        if self.split and image.get("subset", self.split) != self.split:
            return None
        if not name:
            raise AnnotationError("the image has no name", where=where)
        shapes = [one for one in image if one.tag not in _WITHOUT_AREA]
        boxes = [_box(shape, f"{where}, {shape.tag} {number}") for number, shape in enumerate(shapes, 1)]
        width, height = (int(float(image.get(side) or 0)) for side in ("width", "height"))
        return Draft(id_of(name, where), (name,), where, boxes, width=width, height=height)


def _images(file: Path) -> Iterator[ET.Element]:
    """The elements `image`, one in memory at a time. Raises AnnotationError."""
    with open_file(file, AnnotationError) as opened:
        elements = _parsed(opened, file)
        _, root = next(elements)
        for event, element in elements:
            if event == "start" and element.tag == "track":
                raise AnnotationError("these are tracks of a video", where=str(file), fix=_VIDEO)
            if event == "end" and element.tag == "image":
                yield element
                root.clear()


def _parsed(opened: BufferedReader, file: Path) -> Iterator[tuple[str, ET.Element]]:
    try:
        yield from ET.iterparse(opened, ("start", "end"))
    except (ET.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise not_xml(error, file, AnnotationError) from None


def _box(shape: ET.Element, where: str) -> RawBox:
    try:
        corners = _corners(shape.tag, shape)
    except (KeyError, ValueError) as error:
        raise AnnotationError(f"the {shape.tag} is not in numbers: {error}", where=where) from None
    return RawBox(shape.get("label", "").strip(), *corners, where)


def _corners(kind: str, shape: ET.Element) -> tuple[float, float, float, float]:
    values = shape.attrib
    if kind == "box":
        corners = _numbers(values, "xtl", "ytl", "xbr", "ybr")
    elif kind == "ellipse":
        cx, cy, rx, ry = _numbers(values, "cx", "cy", "rx", "ry")
        corners = (cx - rx, cy - ry, cx + rx, cy + ry)
    elif kind == "mask":
        left, top, width, _ = _numbers(values, "left", "top", "width", "height")
        x1, y1, x2, y2 = _around_runs([int(length) for length in values["rle"].split(",")], int(width))
        return left + x1, top + y1, left + x2, top + y2
    elif kind == "cuboid":
        names = [name for name in values if name[:3] in ("xtl", "ytl", "xtr", "ytr", "xbl", "ybl", "xbr", "ybr")]
        return box_around(*([float(values[name]) for name in names if name[0] == axis] for axis in "xy"))
    else:  # polygon, polyline, skeleton
        parts = [values["points"]] if "points" in values else [one.attrib["points"] for one in shape.iter("points")]
        points = [point.split(",") for part in parts for point in part.split(";")]
        return box_around([float(x) for x, _ in points], [float(y) for _, y in points])
    x1, y1, x2, y2 = corners
    rotation = float(values.get("rotation") or 0)
    return turned_box(corners, rotation, ((x1 + x2) / 2, (y1 + y2) / 2)) if rotation else corners


def _around_runs(lengths: Sequence[int], width: int) -> tuple[float, float, float, float]:
    """The corners of the box around a mask, row by row in runs of pixels: without, within, without …"""
    ends = list(accumulate(lengths))
    runs = [(start, end - 1) for start, end in zip(ends[::2], ends[1::2], strict=False) if end > start]
    rows = [place // width for run in runs for place in run]
    wraps = any(start // width != last // width for start, last in runs)
    columns = [0, width - 1] if wraps else [place % width for run in runs for place in run]
    x1, y1, x2, y2 = box_around(columns, rows)
    return x1, y1, x2 + 1, y2 + 1


def _numbers(values: Mapping[str, str], *names: str) -> tuple[float, float, float, float]:
    a, b, c, d = (float(values[name]) for name in names)
    return a, b, c, d
