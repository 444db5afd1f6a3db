from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vistune.data.near_identical import NearIdentical
from vistune.data.split import split
from vistune.errors import DataError


def picture(seed: int, size: int = 96) -> Image.Image:
    """Smooth random colours, as photographs have."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def shape(x: int, colour: str) -> Image.Image:
    """A small square on a plain background, as easy-VQA's images."""
    image = Image.new("RGB", (64, 64), "white")
    image.paste(colour, (x, 20, x + 16, 36))
    return image


def test_copies_are_found_by_pixels(tmp_path: Path) -> None:
    known = NearIdentical()
    for seed in range(30):
        picture(seed).save(path := tmp_path / f"{seed}.png")
        assert known.add(path) == path
    picture(7).save(tmp_path / "copy.jpg", quality=60)
    picture(7).resize((64, 64)).save(tmp_path / "small.png")
    assert known.find(tmp_path / "copy.jpg") == known.find(tmp_path / "small.png") == tmp_path / "7.png"
    picture(99).save(tmp_path / "other.png")
    assert known.find(tmp_path / "other.png") is None


def test_drawings_on_the_same_background_are_different(tmp_path: Path) -> None:
    known = NearIdentical()
    for number, (x, colour) in enumerate([(4, "red"), (4, "blue"), (40, "red"), (20, "green")]):
        shape(x, colour).save(path := tmp_path / f"{number}.png")
        assert known.add(path) == path


def test_no_image_is_in_both_parts(tmp_path: Path) -> None:
    rows = []
    for seed in range(60):
        picture(seed).save(tmp_path / f"{seed}.png")
        picture(seed).save(tmp_path / f"{seed}-again.jpg")
        rows += [{"image": f"{seed}.png", "question": q} for q in "ab"] + [
            {"image": f"{seed}-again.jpg", "question": "c"}
        ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = split(tmp_path / "rows.jsonl", tmp_path, 0.2)
    assert parts.near_identical == 60
    assert len(parts.train) + len(parts.test) == 180
    assert 12 <= len(parts.test) <= 72
    names = [{row["image"].split(".")[0].removesuffix("-again") for row in part} for part in (parts.train, parts.test)]
    assert not names[0] & names[1]
    more = [*rows, {"image": "59.png", "question": "d"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, more)))
    assert [row for row in split(tmp_path / "rows.jsonl", tmp_path, 0.2).test if row["question"] != "d"] == parts.test


def test_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": "gone.png", "question": "?"}')
    with pytest.raises(DataError, match=r"gone\.png: there is no such image"):
        split(tmp_path / "rows.jsonl", tmp_path, 0.5)
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "question": "?"}\n{"foo": 1}')
    with pytest.raises(DataError, match=r"rows\.jsonl: line 2: the key 'conversations' is missing"):
        split(tmp_path / "rows.jsonl", tmp_path, 0.5)
    with pytest.raises(DataError, match="between 0 and 1"):
        split(tmp_path / "rows.jsonl", tmp_path, 10)
