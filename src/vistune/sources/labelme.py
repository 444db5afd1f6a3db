"""LabelMe's JSON: a file for each image, with polygons, rectangles and circles in pixels.

See https://github.com/wkentaro/labelme; AnyLabeling and X-AnyLabeling write it, too.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.reading import parse_json
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, category_name, is_number, read_bytes
from vistune.sources._reading import ReadingEach

_WITHOUT_AREA = ("point", "points", "line", "linestrip")


@sources.register("labelme")
class LabelMe(ReadingEach):
    """A folder below which there are JSON files, usually beside their images, or one such file."""

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return {"shapes", "imagePath"} <= contents.json(file).members.keys()

    def _draft(self, file: Path) -> Draft:
        content = parse_json(read_bytes(file), str(file), AnnotationError)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise AnnotationError("LabelMe's format is an object with 'shapes'", where=str(file), fix="move it away")
        shapes = ((shape, f"{file}: shape {number}") for number, shape in enumerate(content["shapes"], 1))
        boxes = [box for shape, where in shapes if (box := _box(shape, where))]
        names = self._names(file, content.get("imagePath") or f"{file.stem}.jpg")
        width, height = (content.get(side) or 0 for side in ("imageWidth", "imageHeight"))
        return Draft(self._id(file), names, str(file), boxes, width=width, height=height)


def _box(shape: Any, where: str) -> RawBox | None:
    """The box of a shape; None for one without area."""
    if isinstance(shape, dict) and shape.get("shape_type") in _WITHOUT_AREA:
        return None
    points = shape.get("points") if isinstance(shape, dict) else None
    if not isinstance(points, list) or not points or not all(map(_is_point, points)):
        raise AnnotationError("'points' are not points [x, y]", where=where)
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    corners = box_around(xs, ys)
    if shape.get("shape_type") == "circle":  # its centre, and a point on it
        radius = math.dist(points[0][:2], points[-1][:2])
        corners = (xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius)
    return RawBox(category_name(shape.get("label"), where), *corners, where)


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) >= 2 and all(map(is_number, point[:2]))
