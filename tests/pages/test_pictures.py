from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vistune.pages import as_data
from vistune.pages.pictures import store_picture


@pytest.mark.parametrize("name", ["noise.png", "noise.jpg", "tall.webp", "gray.tif", "palette.gif", "alpha.png"])
def test_a_thumbnail_has_at_most_4_kb_and_the_larger_image_its_pixels(name: str, tmp_path: Path) -> None:
    width, height = (200, 900) if name.startswith("tall") else (900, 700)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    modes = {"gray.tif": "L", "palette.gif": "P", "alpha.png": "RGBA"}
    noise.convert(modes.get(name, "RGB")).save(tmp_path / name)
    found = store_picture(tmp_path / name, tmp_path)
    assert found is not None
    assert len(found.thumbnail) <= 4096
    small = Image.open(io.BytesIO(base64.b64decode(found.thumbnail.partition(",")[2])))
    assert small.width / small.height == pytest.approx(width / height, rel=0.05)
    assert Image.open(tmp_path / found.file).size == (found.width, found.height) == (width, height)
    assert Path(found.file).suffix in (".png", ".jpg", ".webp")


def test_equal_images_are_one_file_and_large_ones_are_scaled_down(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (3000, 1500), "red").save(tmp_path / name)
    folder = tmp_path / "stored"
    folder.mkdir()
    assert store_picture(tmp_path / "a.png", folder) == store_picture(tmp_path / "b.png", folder)
    [file] = folder.iterdir()
    assert Image.open(file).size == (1280, 640)


def test_a_picture_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg", exif=exif)
    found = store_picture(tmp_path / "a.jpg", tmp_path)
    assert found is not None
    assert (found.width, found.height) == (200, 400)
    small = Image.open(io.BytesIO(base64.b64decode(found.thumbnail.partition(",")[2])))
    assert small.size == (80, 160)


def test_what_is_no_image_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    assert store_picture(tmp_path / "broken.png", tmp_path) is None
    assert store_picture(tmp_path / "gone.png", tmp_path) is None
    assert store_picture(tmp_path, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_data_in_a_page_cannot_end_its_element() -> None:
    assert "<" not in as_data({"text": "</script><!-- <script>"})
