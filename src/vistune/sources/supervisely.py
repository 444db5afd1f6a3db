"""Supervisely's JSON, also of Dataset Ninja: `ann/a.jpg.json` for `img/a.jpg`; rectangles, polygons and masks.

See https://docs.supervisely.com/data-organization/00_ann_format_navi.
"""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.reading import parse_json
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, category_name, read_bytes
from vistune.sources._image_files import read_size
from vistune.sources._reading import ReadingEach
from vistune.sources._rows import id_of, text_captions

_WITHOUT_AREA = ("point", "graph", "line")
_HEAD = 2**16
"""Bytes of a mask that are decompressed: its size is among the first."""


@sources.register("supervisely")
class Supervisely(ReadingEach):
    """A project, one of its data sets, or a file; the image's description is its caption."""

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return {"size", "objects"} <= contents.json(file).members.keys()

    def _draft(self, file: Path) -> Draft:
        content = parse_json(read_bytes(file), str(file), AnnotationError)
        found = [(one, f"{file}: object {number}") for number, one in enumerate(content["objects"], 1)]
        boxes = [_box(one, where) for one, where in found if one.get("geometryType") not in _WITHOUT_AREA]
        names = self._names(file, file.stem)  # a.jpg.json
        size = content["size"]["width"], content["size"]["height"]
        return Draft(
            id_of(self._id(file), str(file)),
            names,
            str(file),
            boxes,
            text_captions(content.get("description") or ""),
            *size,
        )


def _box(one: dict[str, Any], where: str) -> RawBox:
    if "bitmap" in one:
        left, top = one["bitmap"]["origin"]
        width, height = _mask_size(one["bitmap"]["data"], where)
        corners = left, top, left + width, top + height
    else:
        points = one["points"]["exterior"]
        corners = box_around([x for x, _ in points], [y for _, y in points])
    return RawBox(category_name(one.get("classTitle"), where), *corners, where)


def _mask_size(data: str, where: str) -> tuple[int, int]:
    """Width and height in pixels of a mask, a compressed PNG that is cut to its object."""
    try:
        head = zlib.decompressobj().decompress(base64.b64decode(data), _HEAD)
    except (ValueError, zlib.error):
        head = b""
    size = read_size(io.BytesIO(head))
    if size is None:
        raise AnnotationError("the mask is not a compressed PNG", where=where, fix="export the data set again")
    return size.upright
