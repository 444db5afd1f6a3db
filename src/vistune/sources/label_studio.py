"""Label Studio's JSON, JSON-MIN, CSV and TSV: a list of tasks, with boxes in per cent of the image's size, and texts.

See https://labelstud.io/guide/export. Its other exports are COCO's, VOC's and YOLO's formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.reading import parse_json
from vistune.scene.context import one_line
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._helpers import box_around, is_number, turned_box
from vistune.sources._reading import Reading, each, json_rows
from vistune.sources._rows import IMAGE, read_rows, sample

_SHAPES = ("rectangle", "polygon", "ellipse")
_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_IMAGE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)($|\?)", re.IGNORECASE)


@sources.register("label_studio")
class LabelStudio(Reading):
    """A file, or a folder with one. The first annotation of a task that was not cancelled is read.

    Tasks without any are left out: what is in their images is not known.
    """

    endings = (".json", ".csv")

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        if file.suffix.lower() == ".csv":
            return any(_is_task(row.values) for row in sample(contents, file)[:1])
        return _is_task(contents.json(file).first)

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            table = file.suffix.lower() == ".csv"
            tasks = _of_table(file, on_error) if table else json_rows(file, "task")
            yield from each(tasks, _draft, on_error)


def _of_table(file: Path, on_error: OnError) -> Iterator[tuple[str, Any]]:
    """The rows of CSV or TSV, which are those of JSON-MIN with results as JSON in a cell."""
    for row in read_rows(file, on_error):
        cells = {name: str(value) for name, value in row.values.items()}
        yield (
            row.where,
            {
                name: parse_json(text, row.where, AnnotationError) if text.startswith("[") else text
                for name, text in cells.items()
            },
        )


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict):
        return False
    full = isinstance(task.get("data"), dict) and ("annotations" in task or "completions" in task)
    return full or ({"annotation_id", "annotator"} <= task.keys() and "image" in task)


def _draft(item: tuple[str, Any]) -> Draft | None:
    where, task = item
    if not isinstance(task, dict):
        raise AnnotationError("this is not a task", where=where)
    results = _results(task)
    if results is None:
        return None
    names = _names(task.get("data", task), where)
    pairs = [(result, f"{where}, result {number}") for number, result in enumerate(results, 1)]
    size = next((_size(result) for result, _ in pairs if "original_width" in result), (0, 0))
    by_region = {result["id"]: labels for result, _ in pairs if "id" in result and (labels := _labels(result))}
    boxes = [box for result, at in pairs for box in _boxes(result, by_region, size, at)]
    captions = [one_line(text) for result, _ in pairs for text in _texts(result)]
    brushed = any(str(result.get("type")).startswith("brush") for result in results)  # masks, which are not read
    return Draft(
        Path(names[-1]).stem, names, where, boxes, tuple(filter(None, captions)), *size, pixels=bool(min(size)),
        exhaustive=not brushed,
    )  # fmt: skip


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The results of the task's annotation; those of JSON-MIN lie under the names of the tags."""
    if "data" not in task:
        return [one for value in task.values() if isinstance(value, list) for one in value if isinstance(one, dict)]
    done = [one for one in task.get("annotations") or task.get("completions") or () if not one.get("was_cancelled")]
    best = next((one for one in done if one.get("ground_truth")), done[0] if done else None)
    return None if best is None else [one for one in best.get("result") or () if isinstance(one, dict)]


def _names(data: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The image's path on the server, and without the eight digits that an upload adds."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    usual = [texts[key] for key in IMAGE if key in texts]
    name = next((text for text in (*texts.values(), *usual) if _IMAGE.search(text)), usual[0] if usual else None)
    if name is None:
        raise AnnotationError(f"the task has no image: {', '.join(data)}", where=where)
    address = urlsplit(name)
    local = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/a.jpg
    path = local[0] if local else unquote(address.path)
    plain = Path(path).with_name(_PREFIX.sub("", Path(path).name))
    return (path.lstrip("/"), str(plain).lstrip("/"))


def _size(result: Mapping[str, Any]) -> tuple[int, int]:
    width, height = result.get("original_width"), result.get("original_height")
    return (int(width), int(height)) if is_number(width) and is_number(height) else (0, 0)  # type: ignore[arg-type]


def _value(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value", result)
    return value if isinstance(value, Mapping) else {}


def _labels(result: Mapping[str, Any]) -> list[str]:
    """The names of a region, under `rectanglelabels` and the like."""
    found = [value for key, value in _value(result).items() if key.endswith("labels") and isinstance(value, list)]
    return [str(name) for value in found for name in value]


def _texts(result: Mapping[str, Any]) -> list[str]:
    text = _value(result).get("text") if result.get("type") == "textarea" else None
    return [text] if isinstance(text, str) else [str(one) for one in text or ()]


def _boxes(
    result: Mapping[str, Any], by_region: Mapping[str, list[str]], size: tuple[int, int], where: str
) -> Iterator[RawBox]:
    """The box of a region, once for each of its labels; in pixels if the size is known, else in fractions."""
    value = _value(result)
    corners = _corners(value, size, where)
    named = any(key.startswith(_SHAPES) for key in value) or str(result.get("type", "")).startswith(_SHAPES)
    if corners and named and not (result.get("type") in _SHAPES and _labels(result)):
        for label in _labels(result) or by_region.get(str(result.get("id")), []):
            yield RawBox(label, *corners, where)


def _corners(value: Mapping[str, Any], size: tuple[int, int], where: str) -> tuple[float, float, float, float] | None:
    """Corners in pixels, or in fractions without a size. None for a region without an area."""
    sx, sy = (size[0] / 100, size[1] / 100) if min(size) else (0.01, 0.01)
    try:
        if "points" in value:
            return box_around([x * sx for x, _ in value["points"]], [y * sy for _, y in value["points"]])
        if "radiusX" in value:
            x, y, rx, ry = (value[key] * scale for key, scale in
                            (("x", sx), ("y", sy), ("radiusX", sx), ("radiusY", sy)))  # fmt: skip
            return turned_box((x - rx, y - ry, x + rx, y + ry), value.get("rotation") or 0, (x, y))
        if {"x", "y", "width", "height"} <= value.keys():
            x, y = value["x"] * sx, value["y"] * sy
            box = (x, y, x + value["width"] * sx, y + value["height"] * sy)
            return turned_box(box, value["rotation"], (x, y)) if value.get("rotation") else box
    except (TypeError, ValueError):
        raise AnnotationError("the region is not in numbers", where=where) from None
    return None
