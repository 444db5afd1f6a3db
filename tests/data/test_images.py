from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from vistune.data.images import open_image, square_processor, to_pixels
from vistune.errors import DataError


def test_a_missing_or_corrupt_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: there is no such image"):
        open_image(tmp_path / "none.png")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"cut\.png: the image cannot be read"):
        open_image(tmp_path / "cut.png")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:900])
    with pytest.raises(DataError, match=r"half\.jpg: the image cannot be read"):
        open_image(tmp_path / "half.jpg")


def _saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    clear, half = (Image.new("RGBA", (8, 8), (200, 0, 0, alpha)) for alpha in (0, 128))
    grey = Image.fromarray(np.full((8, 8), 40 * 257, dtype=np.uint16))
    images = {
        "palette.png": red.quantize(4), "cmyk.jpg": red.convert("CMYK"), "colours.tif": red,
    }  # fmt: skip
    for name, image in images.items():
        assert open_image(_saved(image, tmp_path / name)).getpixel((3, 3)) == pytest.approx((200, 0, 0), abs=6), name
    greys = {
        "16.png": grey, "16.tif": grey, "32.tif": grey.convert("I"), "8.png": Image.new("L", (8, 8), 40),
        "alpha.png": Image.new("LA", (8, 8), (40, 255)),
    }  # fmt: skip
    for name, image in greys.items():
        assert open_image(_saved(image, tmp_path / name)).getpixel((3, 3)) == (40, 40, 40), name
    white = {"1.png": Image.new("1", (8, 8), 1), "clear.png": clear, "clear palette.png": clear.quantize(4)}
    for name, image in white.items():
        assert open_image(_saved(image, tmp_path / name)).getpixel((3, 3)) == (255, 255, 255), name
    assert open_image(_saved(half, tmp_path / "half.png")).getpixel((3, 3)) == pytest.approx((227, 127, 127), abs=1)
    with pytest.raises(DataError, match=r"float\.tif: .* floating-point numbers"):
        open_image(_saved(Image.new("F", (8, 8), 0.5), tmp_path / "float.tif"))


def test_huge_images_and_other_formats_are_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="13000 x 13000 pixels are more than 64 megapixels"):
        open_image(_saved(Image.new("1", (13_000, 13_000)), tmp_path / "huge.png"))
    with pytest.raises(DataError, match="not in a known format"):
        open_image(_saved(Image.new("RGB", (9, 9)), tmp_path / "post.eps"))


def test_a_turned_photo_stands_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (20, 10), "red")
    photo.paste("blue", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image = open_image(_saved(photo, tmp_path / "photo.png", exif=exif))
    assert image.size == (10, 20)
    assert (image.getpixel((5, 2)), image.getpixel((5, 17))) == ((0, 0, 255), (255, 0, 0))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"GIF89a\x01", b"II*\x00\x08\x00\x00\x00\xff\xff", b"BM" + b"\xff" * 60]
)
def test_whatever_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"it\.jpg: the image cannot be read"):
        open_image(tmp_path / "it.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_read_or_named(tmp_path: Path) -> None:
    rng = random.Random(0)
    image = Image.effect_noise((32, 24), 60).convert("RGB")
    for kind in ("png", "jpeg", "gif", "webp", "tiff", "bmp"):
        whole = _saved(image, tmp_path / f"whole.{kind}").read_bytes()
        for number in range(40):
            damaged = bytearray(whole)
            for _ in range(rng.randint(1, 6)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(damaged[: rng.choice((len(damaged), rng.randrange(1, len(damaged))))])
            try:
                assert open_image(path).mode == "RGB"
            except DataError as error:
                message = str(error)
                assert path.name in message


TOWER = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
Aspect = Literal["pad", "crop", "stretch"]


def _reference(image: Image.Image, side: int, aspect: Aspect) -> Any:
    """By Pillow: LLaVA-1.5's padding with the mean colour, LLaVA's cropping, or neither."""
    width, height = image.size
    if aspect == "pad":
        square = Image.new("RGB", (max(image.size),) * 2, tuple(int(mean * 255) for mean in TOWER["image_mean"]))
        square.paste(image, ((square.width - width) // 2, (square.height - height) // 2))
        image = square.resize((side, side), Image.Resampling.BICUBIC)
    elif aspect == "stretch":
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    else:
        size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = (np.asarray(image) / 255 - TOWER["image_mean"]) / TOWER["image_std"]
    return torch.from_numpy(pixels).permute(2, 0, 1).float()


@pytest.mark.parametrize("aspect", ["pad", "crop", "stretch"])
def test_pixels_are_the_references_also_in_plain_transformers(tmp_path: Path, aspect: Aspect) -> None:
    processor = square_processor(TOWER, 24, aspect)
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    rng = np.random.default_rng(0)
    for size in ((40, 30), (31, 40), (24, 24), (1, 50), (50, 1), (3, 50), (50, 3), (1, 1), (3, 2), (333, 500)):
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        [pixels] = to_pixels(processor, image)
        assert pixels.dtype == torch.float32
        torch.testing.assert_close(pixels, _reference(image, 24, aspect), atol=1e-6, rtol=0)
        assert torch.equal(pixels, loaded(image, return_tensors="pt")["pixel_values"][0])


def test_an_image_that_would_grow_to_gigabytes_is_named() -> None:
    thin = Image.new("RGB", (1, 20_000))
    with pytest.raises(DataError, match=r"thin\.png: the image is too long and thin \(1 x 20000 pixels\)"):
        to_pixels(square_processor(TOWER, 336, "pad"), thin, "thin.png")
    with pytest.raises(DataError, match="too long and thin"):
        to_pixels(square_processor(TOWER, 336, "crop"), thin)
    assert to_pixels(square_processor(TOWER, 336, "stretch"), thin).shape == (1, 3, 336, 336)


def test_aspect_pads_with_the_mean_crops_or_stretches() -> None:
    tower = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": Image.Resampling.NEAREST}
    wide = Image.new("RGB", (32, 16), (255, 0, 0))
    wide.paste((0, 255, 0), (0, 0, 8, 16))
    pad, crop, stretch = (
        to_pixels(square_processor(tower, 8, aspect), wide)[0] for aspect in ("pad", "crop", "stretch")
    )
    assert pad.shape == crop.shape == stretch.shape == (3, 8, 8)
    assert pad[:, 0].abs().max() < 0.02  # the mean colour is zero once normalised
    assert pad[0, 4, 4] == 1
    assert crop[1].max() < 0  # the green left side is cut off
    assert stretch[1, 0, 0] > 0.9
    assert stretch[1, 7, 7] == -1
