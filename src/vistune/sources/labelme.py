"""LabelMe's JSON: a file for each image, with polygons, rectangles and circles in pixels.

See https://github.com/wkentaro/labelme; AnyLabeling and X-AnyLabeling write it, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError, parse_json
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, category_name, is_number, read_bytes
from vistune.sources._reading import Reading, each

_FIRST = 20
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


@sources.register("labelme")
class LabelMe(Reading):
    """A folder below which there are JSON files, usually beside their images, or one such file."""

    _picks_split = False

    @staticmethod
    def _own_files(contents: Contents) -> list[Path]:
        files = contents.files(".json")
        return files if any(_is_labelme(contents, file) for file in files[:_FIRST]) else []

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        return each(self._files, self._draft, on_error)

    def _draft(self, file: Path) -> Draft | None:
        content = parse_json(read_bytes(file), str(file), AnnotationError)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise AnnotationError("LabelMe's format is an object with 'shapes'", where=str(file), fix="move it away")
        shapes = [
            (shape, f"{file}: shape {number}") for number, shape in enumerate(content["shapes"], 1)
            if not isinstance(shape, dict) or shape.get("shape_type") not in _WITHOUT_AREA
        ]  # fmt: skip
        boxes = [_box(shape, where) for shape, where in shapes]
        names = (content.get("imagePath") or "", f"{file.stem}.jpg")
        width, height = (content.get(side) or 0 for side in ("imageWidth", "imageHeight"))
        inside = file.relative_to(self.path) if file != self.path else Path(file.name)
        id_ = inside.with_suffix("").as_posix()
        return Draft(id_, tuple(filter(None, names)), str(file), boxes, width=width, height=height)


def _is_labelme(contents: Contents, file: Path) -> bool:
    return {"shapes", "imagePath"} <= contents.json(file).members.keys()


def _box(shape: Any, where: str) -> RawBox:
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
