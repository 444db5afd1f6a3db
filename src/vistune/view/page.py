"""The page of `vistune view`: images with boxes and captions, turns, verdicts; it filters itself, without a network."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image, ImageOps

from vistune import pages
from vistune.data.conversation import embedded_image, file_name
from vistune.errors import DataError
from vistune.image_files import MAX_MEGAPIXELS, ImagesFolder, is_file, open_content, open_image_file, to_rgb
from vistune.pages import check_page, write_page
from vistune.pages.pictures import class_hues, embed, link, place_boxes
from vistune.records import IMAGE_TOKEN, ImageRecord, Turn
from vistune.view.samples import ViewSample, draw_samples, images_folder

_SHAPE = (640, 480)
"""The frame's size in pixels where neither the image nor its record is known."""
_PAGE = 50
"""Samples that the page shows at a time."""
_LARGE_SIDE, _SMALL_SIDE = 896, 448
"""Maximum side in pixels of an embedded image, where the samples fill one page and where they fill more."""
_EMBEDDED = 200
"""Samples whose images are in the page itself; a page of more has links to the files, and is written in seconds."""
_SHOWN_APART = ("id", "kind", "verdict", "reasons", "image", "text")
"""Keys of the provenance that the page shows outside of its table."""


def write_view(
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    records: Iterable[ImageRecord] = (),
    limit: int = 50,
    seed: int = 0,
    only_rejected: bool = False,
    overwrite: bool = False,
    allow_outside: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Write a page of at most `limit` samples of `data`, drawn by `seed`, to the file `out`; returns their number.

    `data`: what `generate` wrote, or a file of conversations (see `draw_samples`). Image paths start from `images`,
    by default the folder that the run noted, else that of `data`. `records` are the annotated images, for captions
    and boxes; a sample's record is found by the record's id where the provenance has it, else by the image's path.
    `warn` receives a line on images that are not found; the page shows it too. Up to 200 samples are one file with
    their images, of more the page links to the images' files. Raises DataError, and VistuneError if `out` is another
    file than such a page, without `overwrite`.
    """
    if out.exists() and data.exists() and out.samefile(data):
        raise DataError("the page would overwrite the data", where=str(out), fix="give another file with --out")
    check_page(out, overwrite=overwrite)
    samples = draw_samples(data, limit, seed, only_rejected=only_rejected)
    if limit and not samples and not only_rejected:
        raise DataError("there are no samples in it", where=str(data), fix="check that it is the data you mean")
    folder = images or images_folder(data)
    found = _find_records(samples, folder, records)
    lost = _not_found([_path(sample, folder, found.get(sample.id)) for sample in samples], folder)
    if lost and warn:
        warn(lost)
    page = out if len(samples) > _EMBEDDED else None
    reader = _Images(folder, allow_outside, max_megapixels)
    html = render(samples, reader, found, title=str(data.name or data), lost=lost, page=page)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(out, html, overwrite=overwrite)
    return len(samples)


class _Images:
    """Reads the images of samples that are below `folder`, or anywhere with `allow_outside`."""

    def __init__(self, folder: Path, allow_outside: bool, max_megapixels: float) -> None:
        self.folder, self._max = folder, max_megapixels
        self._holds = ImagesFolder(folder, allow_outside=allow_outside).holds

    def holds(self, path: Path, record: ImageRecord | None) -> bool:
        """Whether a file may be shown; that of a record is checked by its source."""
        return (record is not None and path == record.image) or self._holds(str(path))

    def read(self, sample: ViewSample, record: ImageRecord | None) -> tuple[Image.Image | None, str]:
        """The image in RGB, or the reason why it is missing."""
        if sample.image is None:
            return None, "no image"
        name, path = file_name(sample.image), _path(sample, self.folder, record)
        if path and not is_file(path):
            return None, f"{path} does not exist"
        if path and not self.holds(path, record):
            return None, f"{path} is outside of the images' folder (--images, or --allow-outside)"
        try:
            content = None if path else io.BytesIO(embedded_image(sample.image, sample.id))
            with open_content(content, self._max) if content else open_image_file(path or Path(), self._max) as image:
                return to_rgb(ImageOps.exif_transpose(image)), ""
        except DataError as error:
            return None, str(error)
        except Exception as error:  # Pillow's decoders raise many types of errors for a corrupt file
            return None, f"{name or 'the image'} cannot be read: {error}"


def render(
    samples: Sequence[ViewSample], images: _Images, records: Mapping[str, ImageRecord], title: str, lost: str = "",
    page: Path | None = None,
) -> str:  # fmt: skip
    """The page as HTML; `records` by sample id, `lost` a line on images that are not found.

    With `page`, the file that it will be, it links to the images' files; else it holds them. Its security policy lets
    no script run but its own, by hash.
    """
    hues = class_hues(box.category for record in records.values() for box in record.boxes)
    side = _LARGE_SIDE if len(samples) <= _PAGE else _SMALL_SIDE

    @cache  # an image has several samples
    def draw(record: ImageRecord, width: int, height: int) -> Markup:
        return Markup(pages.draw_boxes(place_boxes(record.boxes, width, height, hues), width, height))

    def card(sample: ViewSample) -> dict[str, Any]:
        record = records.get(sample.id)
        address, size, missing = _show(sample, record, images, side, page)
        size = size or ((record.width, record.height) if record else _SHAPE)
        boxes = sorted(record.boxes, key=lambda box: -box.area) if record else []
        return _about(sample) | {
            "image": address, "missing": missing, "size": size, "boxes": draw(record, *size) if record else "",
            "categories": {box.category: hues[box.category] for box in boxes},
            "captions": record.captions if record else (),
        }  # fmt: skip

    cards = [card(sample) for sample in samples]
    choices = _choices(samples) | {"class": list(hues)}
    scripts = ("filters.js", "view.js")
    return pages.render(
        "view.html", scripts=scripts, title=title, cards=cards, choices=choices, lost=lost, page_size=_PAGE,
        linked=page is not None,
    )  # fmt: skip


def _not_found(paths: Sequence[Path | None], folder: Path) -> str:
    """A line on the image files that do not exist, or an empty text."""
    files = [path for path in paths if path]
    count = sum(not is_file(path) for path in files)
    if not count:
        return ""
    return f"{count} of {len(files)} images are not found in {folder}; name the folder of the images with --images DIR"


def _choices(samples: Sequence[ViewSample]) -> dict[str, list[str]]:
    """The values that the page can be filtered by: kinds, verdicts and reasons, sorted."""
    generated = [sample.provenance for sample in samples if sample.provenance]
    return {
        "kind": sorted({sample.kind for sample in samples if sample.kind}),
        "verdict": sorted({row["verdict"] for row in generated}),
        "reason": sorted({reason for row in generated for reason in row["reasons"]}),
    }


def _find_records(
    samples: Iterable[ViewSample], images: Path, records: Iterable[ImageRecord]
) -> dict[str, ImageRecord]:
    """The record of each sample that has one, by the sample's id; one pass over `records`."""
    wanted: dict[str | Path, list[str]] = defaultdict(list)  # samples by the record's id, or by the image's path
    for sample in samples:
        name = file_name(sample.image)
        if key := sample.provenance.get("record") or (images / name if name else None):
            wanted[key].append(sample.id)
    return {id_: one for one in records for key in (one.id, one.image) for id_ in wanted.get(key, ())}


def _about(sample: ViewSample) -> dict[str, Any]:
    """What the page shows of a sample beside its image."""
    return {
        "id": sample.id,
        "kind": sample.kind,
        "verdict": sample.provenance.get("verdict", ""),
        "reasons": sample.provenance.get("reasons", []),
        "turns": [Turn(turn.role, turn.text.replace(IMAGE_TOKEN, "").strip()) for turn in sample.turns],
        "text": sample.text,
        "rejected": sample.rejected,
        "provenance": {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in sample.provenance.items()
            if key not in _SHOWN_APART
        },
    }


def _show(
    sample: ViewSample, record: ImageRecord | None, images: _Images, side: int, page: Path | None
) -> tuple[str, tuple[int, int] | None, str]:
    """The address of the image, a link or the image itself, and its size in pixels; or why it is missing."""
    path = _path(sample, images.folder, record)
    if page and path and images.holds(path, record) and (linked := link(path, page)):
        return *linked, ""
    picture, missing = images.read(sample, record)
    return (embed(picture, side), picture.size, "") if picture else ("", None, missing)


def _path(sample: ViewSample, images: Path, record: ImageRecord | None) -> Path | None:
    """The image's file: that of the record, else the one below `images`; None for an image within the data."""
    name = file_name(sample.image) if sample.image is not None else None
    if record and (name is None or is_file(record.image)):
        return record.image
    return images / name if name is not None else None
