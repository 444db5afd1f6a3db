from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vistune.data.images import open_image
from vistune.data.near_identical import NearIdentical
from vistune.errors import DataError
from vistune.image_files import FORMATS, ImagesFolder, open_image_file
from vistune.llm.images import ImageFile as ShownFile

PICTURE = Image.effect_noise((40, 30), 50).convert("RGB")


def content(form: str) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, form)
    return buffer.getvalue()


def png_head(width: int, height: int) -> bytes:
    """A PNG file of that size by its head, without pixels."""
    head = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("form", FORMATS)
def test_known_formats_are_read_whatever_the_name(form: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content(form))
    assert open_image(tmp_path / "x.jpg").size == (40, 30)


@pytest.mark.parametrize("form", ["EPS", "PPM", "PDF", "ICO", "TGA"])
def test_other_formats_are_not(form: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content(form))
    with pytest.raises(DataError, match=r"not in a known format, or cut off\n  fix: "):
        open_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("size", [(9000, 9000), (13_000, 13_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_large_images_are_refused_before_they_are_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_head(*size))
    with pytest.raises(DataError, match=r"megapixels|known format"):
        open_image(tmp_path / "x.png")
    with pytest.raises(DataError, match="cannot be read"):
        open_image(tmp_path / "x.png", 178)


def test_the_limit_can_be_changed(tmp_path: Path) -> None:
    PICTURE.resize((2000, 1000)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").size == (2000, 1000)
    with pytest.raises(DataError, match=r"2000 x 1000 pixels are more than 1\.5 megapixels \(--max-megapixels\)"):
        open_image(tmp_path / "x.png", 1.5)


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="pipe or a device"), open_image_file(tmp_path / "x.png"):
        pass


def test_a_folder_holds_what_lies_in_it_once_links_are_followed(tmp_path: Path) -> None:
    for name in ("in/a/x.png", "in/x.png", "out/x.png", "inside/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {"in/own.png": "x.png", "in/file.png": "../out/x.png", "in/folder": "../out", "alias": "in"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    for start in ("in", "alias"):
        folder = ImagesFolder(tmp_path / start)
        held = ["in/x.png", "in/a/x.png", "in/own.png", "alias/x.png", "in/a/../x.png", "in/gone.png"]
        outside = ["out/x.png", "inside/x.png", "in/file.png", "in/folder/x.png", "in/../out/x.png", "in", "in/.."]
        assert [name for name in held if not folder.holds(f"{tmp_path}/{name}")] == []
        assert [name for name in outside if folder.holds(f"{tmp_path}/{name}")] == []
    assert ImagesFolder(tmp_path / "in", allow_outside=True).holds("/etc/x.png")


def scan(side: int, seed: int) -> Image.Image:
    """A picture of 12 bits a pixel in 16, as a DICOM converter writes it: from 0 to 4095."""
    blocks = np.random.default_rng(seed).integers(0, 4096, (side // 8, side // 8), dtype=np.uint16)
    blocks.flat[:2] = 0, 4095
    return Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_scan_of_12_bits_keeps_its_greys_everywhere(ending: str, tmp_path: Path) -> None:
    scan(64, 0).save(path := tmp_path / f"scan.{ending}")
    expected = (np.asarray(scan(64, 0)) // 16).astype(int)
    shown = base64.b64decode(ShownFile(path, path.name, 64).data_url().partition(",")[2])
    images = {"model": open_image(path), "teacher": Image.open(io.BytesIO(shown))}
    for name, image in images.items():
        assert np.abs(np.asarray(image)[:, :, 0] - expected).max() <= (0 if name == "model" else 12), name  # of JPEG


def test_more_bits_are_scaled_by_all_16(tmp_path: Path) -> None:
    bright = np.asarray(scan(16, 0)).copy()
    bright[0, 0] = 4096
    Image.fromarray(bright).save(tmp_path / "16.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "16.png"))[:, :, 0], bright // 256)


def test_scans_are_not_all_alike(tmp_path: Path) -> None:
    known = NearIdentical()
    for seed in range(3):
        scan(64, seed).save(path := tmp_path / f"{seed}.png")
        assert known.add(path) == path
