from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

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


def test_aspect_pads_with_the_mean_crops_or_stretches() -> None:
    tower = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": Image.Resampling.NEAREST}
    wide = Image.new("RGB", (32, 16), (255, 0, 0))
    wide.paste((0, 255, 0), (0, 0, 8, 16))
    pad, crop, stretch = (to_pixels(square_processor(tower, 8, aspect), wide) for aspect in ("pad", "crop", "stretch"))
    assert pad.shape == crop.shape == stretch.shape == (3, 8, 8)
    assert pad[:, 0].abs().max() < 0.02  # the mean colour is zero once normalised
    assert pad[0, 4, 4] == 1
    assert crop[1].max() < 0  # the green left side is cut off
    assert stretch[1, 0, 0] > 0.9
    assert stretch[1, 7, 7] == -1
