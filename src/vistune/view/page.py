"""The page of `vistune view`: images with boxes and captions, turns, verdicts; it filters itself, without a network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image, ImageOps

from vistune import pages
from vistune.data.values import content, file_name
from vistune.errors import DataError
from vistune.pages.pictures import embed, place_boxes
from vistune.records import IMAGE_TOKEN, ImageRecord, Turn
from vistune.resources import read_text
from vistune.view.samples import Shown, draw_samples, kinds_and_reasons

_SHAPE = (640, 480)
"""The frame's size in pixels where neither the image nor its record is there."""
_TOLD = ("id", "kind", "verdict", "reasons", "image", "text")
"""What the page shows of the provenance elsewhere."""


def write_view(
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    records: Iterable[ImageRecord] = (),
    limit: int = 50,
    seed: int = 0,
    only_rejected: bool = False,
) -> int:
    """Write a page of at most `limit` samples of `data`, drawn by `seed`, to the file `out`; returns how many.

    `data`: what `generate` wrote, or a file of conversations (see `draw_samples`). Image paths start from `images`,
    or else from the folder of `data`. `records` are the annotated images, from which captions and boxes are taken:
    found by the record's id where the data says it, else by the image's path. Raises DataError.
    """
    samples = draw_samples(data, limit, seed, only_rejected=only_rejected)
    base = images or (data if data.is_dir() else data.parent)
    found = _find_records(samples, base, records)
    html = render(samples, base, found, title=str(data.name or data))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8", errors="replace")
    return len(samples)


def render(samples: Sequence[Shown], images: Path, records: Mapping[str, ImageRecord], title: str) -> str:
    """The page as HTML; `records` by sample id. Nothing in it can run but its own script, whose hash it names."""
    script = read_text("vistune.pages", "templates/view.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cards = [_card(one, images, records.get(one.id)) for one in samples]
    choices = kinds_and_reasons(samples)
    return pages.render("view.html", title=title, cards=cards, choices=choices, script=Markup(script), digest=digest)


def _find_records(samples: Iterable[Shown], images: Path, records: Iterable[ImageRecord]) -> dict[str, ImageRecord]:
    """The record of each sample that has one, by the sample's id; one pass, only these are kept."""
    by_id: dict[str, list[str]] = {}
    by_path: dict[Path, list[str]] = {}
    for one in samples:
        if "record" in one.about:
            by_id.setdefault(one.about["record"], []).append(one.id)
        elif name := file_name(one.image):
            by_path.setdefault(images / name, []).append(one.id)
    return {
        id_: record for record in records for id_ in by_id.get(record.id, ()) or by_path.get(record.image, ())
    }  # fmt: skip


def _card(one: Shown, images: Path, record: ImageRecord | None) -> dict[str, Any]:
    picture, missing = _picture(one, images, record)
    width, height = picture.size if picture else (record.width, record.height) if record else _SHAPE
    boxes = place_boxes(record.boxes, width, height) if record else []
    categories = {item["name"]: item["hue"] for item in boxes}
    return {
        "id": one.id,
        "kind": one.kind,
        "verdict": one.about.get("verdict", ""),
        "reasons": one.about.get("reasons", []),
        "image": embed(picture) if picture else "",
        "missing": missing,
        "size": (width, height),
        "boxes": boxes,
        "categories": categories,
        "captions": record.captions if record else (),
        "turns": [Turn(turn.role, turn.text.replace(IMAGE_TOKEN, "").strip()) for turn in one.turns],
        "text": one.text,
        "about": {name: _told(value) for name, value in one.about.items() if name not in _TOLD},
    }


def _picture(one: Shown, images: Path, record: ImageRecord | None) -> tuple[Image.Image | None, str]:
    """The image in RGB, or why there is none."""
    if one.image is None:
        return None, "no image"
    name = file_name(one.image)
    path = record.image if record else images / name if name is not None else None
    try:
        file = path.open("rb") if path else io.BytesIO(content(one.image, one.id))
        with file, Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB"), ""
    except FileNotFoundError:
        return None, f"{name or path} is not there"
    except DataError as error:
        return None, str(error)
    except Exception:  # Pillow's decoders raise all sorts of errors for a corrupt file
        return None, f"{name or 'the image'} cannot be read"


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
