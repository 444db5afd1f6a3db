"""Recipes and images, spoilt at random: read, or errors."""

from __future__ import annotations

import io
import random
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from spoiling import spoilt_bytes
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageFile, square_processor
from vistune.errors import DataError, RecipeError
from vistune.image_files import FORMATS
from vistune.recipe.schema import load
from vistune.recipe.training import Recipe
from vistune.recipe.yaml_file import shipped
from vistune.serve.images import ImageReader

pytest.importorskip("hypothesis", reason="the fuzzing tests need hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

READER = ImageReader(square_processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 28, "pad"), ImageGrid(4))
PICTURE = Image.effect_noise((40, 30), 50).convert("RGB")


def content(form: str) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, form)
    return buffer.getvalue()


def test_spoilt_recipes(tmp_path: Path) -> None:
    sound = [file.read_bytes() for file in sorted(shipped().glob("*.yaml"))]
    broken = 0

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        nonlocal broken
        draw = random.Random(seed)
        (tmp_path / "x.yaml").write_bytes(spoilt_bytes(draw.choice(sound), draw))
        try:
            load(Recipe, tmp_path / "x.yaml")
        except RecipeError:
            broken += 1

    check()
    assert broken > 100


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(FORMATS), st.integers(0, 2**32))
def test_spoilt_images(form: str, seed: int) -> None:
    spoilt = spoilt_bytes(content(form), random.Random(seed))
    with suppress(DataError):
        assert ImageFile(spoilt, "x").open().mode == "RGB"
    with suppress(DataError):
        assert READER.read(spoilt, "messages.0").tokens.crops == 1
