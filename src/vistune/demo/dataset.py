"""Emoji-COCO on disk, in COCO's own format (https://cocodataset.org/#format-data), with five captions an image."""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from vistune.demo.scenes import BACKGROUNDS, Scene, Split, categories, picture, sample_scene
from vistune.output_folder import output_folder
from vistune.scene.english import counted, listed, with_article
from vistune.scene.facts import RELATIONS, counts, holds
from vistune.storage import atomic_text, storage_errors

SIDE, QUALITY = 224, 92
_Row = dict[str, Any]
_FIRST_ID = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
_DATE = "2026-01-01 00:00:00"  # fixed: the same seed gives the same bytes

_CAPTIONS = (
    "{Things} on a {ground} background.",
    "A picture of {things}.",
    "{Ground} background with {things}.",
    "There {is_are} {things} in front of a {ground} background.",
    "An image with {things}.",
    "{Things}, all on {ground}.",
    "A scene that shows {things} over {ground}.",
    "{Things} can be seen here.",
    "This is a photo of {things} on {ground}.",
)
_LICENCE = "ATTRIBUTION.md"
_ATTRIBUTION = """\
# Attribution of Emoji-COCO

The objects in these images are emojis of [OpenMoji](https://openmoji.org), the open-source emoji and icon
project, under the license [CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/), scaled, rotated and
mirrored. The images and annotations were made by vistune and are under the same license.
"""
_INFO = {
    "description": "Emoji-COCO: scenes of COCO's categories, drawn with OpenMoji (https://openmoji.org, CC BY-SA 4.0)",
    "url": "https://openmoji.org",
    "version": "1.0",
    "year": 2026,
    "contributor": "vistune; emojis by OpenMoji",
    "date_created": _DATE,
}
_LICENSES = [{"id": 1, "name": "CC BY-SA 4.0", "url": "https://creativecommons.org/licenses/by-sa/4.0/"}]


def write_dataset(out: Path, *, seed: int, train: int, val: int, test: int, overwrite: bool = False) -> None:
    """Draw the three splits into `out`: `images/`, `instances_*.json`, `captions_*.json`, `ATTRIBUTION.md`.

    A scene depends on its split, the seed and its index only; the same call writes the same bytes. Raises VistuneError
    if another run is using the folder, and, without `overwrite`, if it holds other files of these names.
    """
    sizes: dict[Split, int] = {"train": train, "val": val, "test": test}
    names = [f"{kind}_{split}.json" for kind in ("instances", "captions") for split in sizes]
    with output_folder(
        out, ["images", _LICENCE, *names], run={"seed": seed, "sizes": sizes}, overwrite=overwrite
    ), ProcessPoolExecutor(os.cpu_count()) as pool:  # fmt: skip
        images = out / "images"
        images.mkdir(exist_ok=True)
        for split, size in sizes.items():
            annotated = list(pool.map(partial(_write_image, images, split, seed), range(size), chunksize=50))
            _write_annotations(out, split, annotated)
        with atomic_text(out / _LICENCE) as file:
            file.write(_ATTRIBUTION)


def draw(scene: Scene, side: int) -> Image.Image:
    """The scene as an RGB image of `side` x `side` pixels; every box is tight around what is drawn in it."""
    ground = scene.background
    image = Image.new("RGB", (side, side), BACKGROUNDS[ground.colors[0]])
    if len(ground.colors) == 2:
        image.paste(BACKGROUNDS[ground.colors[1]], (0, round(ground.split * side), side, side))
    for box, sprite in zip(scene.boxes, scene.sprites, strict=True):
        left, top = round(box.x1 * side), round(box.y1 * side)
        size = max(1, round(box.x2 * side) - left), max(1, round(box.y2 * side) - top)
        pixels = picture(sprite).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        image.paste(pixels, (left, top), pixels)
    return image


def _write_image(images: Path, split: Split, seed: int, index: int) -> tuple[_Row, list[_Row], list[_Row]]:
    """Draw the image; returns its rows in COCO's form: of the image, its instances and its captions."""
    scene = sample_scene(split, seed, index)
    name = f"{split}_{index:06d}.jpg"
    with storage_errors(images / name):
        draw(scene, SIDE).save(images / name, quality=QUALITY)
    key = _FIRST_ID[split] + index
    image = {
        "id": key, "file_name": name, "width": SIDE, "height": SIDE, "license": 1,
        "date_captured": _DATE, "coco_url": "", "flickr_url": "",
    }  # fmt: skip
    instances = []
    for number, box in enumerate(scene.boxes):
        x, y = round(box.x1 * SIDE, 2), round(box.y1 * SIDE, 2)
        width, height = round(box.x2 * SIDE - x, 2), round(box.y2 * SIDE - y, 2)
        right, bottom = round(x + width, 2), round(y + height, 2)
        instances.append({
            "id": 10 * key + number, "image_id": key, "category_id": categories()[box.category].id,
            "bbox": [x, y, width, height], "area": round(width * height, 2), "iscrowd": 0,
            "segmentation": [[x, y, right, y, right, bottom, x, bottom]],
        })  # fmt: skip
    texts = captions(scene, random.Random(f"captions/{split}/{seed}/{index}"))
    sentences = [{"id": 10 * key + number, "image_id": key, "caption": text} for number, text in enumerate(texts)]
    return image, instances, sentences


def _write_annotations(out: Path, split: Split, annotated: list[tuple[_Row, list[_Row], list[_Row]]]) -> None:
    head = {"info": _INFO, "licenses": _LICENSES, "images": [image for image, _, _ in annotated]}
    names = [{"id": row.id, "name": row.name, "supercategory": row.supercategory} for row in categories().values()]
    instances = {**head, "annotations": [row for _, rows, _ in annotated for row in rows], "categories": names}
    texts = {**head, "annotations": [row for _, _, rows in annotated for row in rows]}
    for kind, content in (("instances", instances), ("captions", texts)):
        with atomic_text(out / f"{kind}_{split}.json") as file:
            json.dump(content, file)


def captions(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """Five captions; each names every object once, in random order; one states a relation if there is one."""
    relation = _relation(scene, rng)
    templates = rng.sample(_CAPTIONS, 4 if relation else 5)
    written = [_fill(template, scene, rng) for template in templates] + ([relation] if relation else [])
    return tuple(rng.sample(written, 5))


def _fill(template: str, scene: Scene, rng: random.Random) -> str:
    objects = list(counts(scene.boxes).items())
    rng.shuffle(objects)
    things = listed([counted(name, n) for name, n in objects])
    ground = " and ".join(scene.background.colors)
    return template.format(
        things=things,
        Things=_capital(things),
        ground=ground,
        Ground=_capital(with_article(ground)),
        is_are="is" if objects[0][1] == 1 else "are",
    )


def _relation(scene: Scene, rng: random.Random) -> str | None:
    pairs = [(a, b) for a in scene.boxes for b in scene.boxes if a.category != b.category]
    rng.shuffle(pairs)
    objects = counts(scene.boxes)
    for a, b in pairs:
        true = [name for name in RELATIONS if holds(name, a, b)]
        if true and objects[a.category] == objects[b.category] == 1:
            words = rng.choice(true).replace("left of", "to the left of").replace("right of", "to the right of")
            return f"{_capital(with_article(a.category))} {words} {with_article(b.category)}."
    return None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
