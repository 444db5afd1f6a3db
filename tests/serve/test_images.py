"""Image files of requests: what is refused before it is decoded, and what of it is read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from vistune.data.image_tokens import ImageGrid
from vistune.data.images import square_processor
from vistune.errors import DataError
from vistune.serve.images import ImageReader

GRID = ImageGrid(4)
PROCESSOR = square_processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 28, "pad")
BOMBS = """
import io, resource, sys
from PIL import Image
from vistune.errors import DataError
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import square_processor
from vistune.serve.images import ImageReader

reader = ImageReader(square_processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 28, "pad"), ImageGrid(4))
bombs = [open(name, "rb").read() for name in sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for bomb in bombs:
    try:
        reader.read(bomb, "messages.0")
    except DataError as error:
        assert "passwd" not in str(error)
    else:
        sys.exit("it was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animation(count: int) -> bytes:
    frames = []
    for number in range(count):
        frames.append(Image.new("P", (8, 8), number % 250))
        frames[-1].putpixel((number % 8, number // 8 % 8), (number + 1) % 250)
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def test_bombs_are_refused_without_the_memory_they_ask_for(tmp_path: Path) -> None:
    bombs = {
        "large.png": saved(Image.new("L", (13_000, 13_000)), "PNG"),
        "thin.png": saved(Image.new("1", (25_000_000, 1)), "PNG"),
        "long.gif": animation(10_000),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", BOMBS, *(str(tmp_path / name) for name in bombs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200


def test_the_first_frame_of_an_animation_is_read() -> None:
    frame = Image.open(io.BytesIO(animation(20)))
    frame.load()
    pixels = ImageReader(PROCESSOR, GRID).read(animation(20), "").pixels
    assert torch.equal(pixels, ImageReader(PROCESSOR, GRID).read(saved(frame.convert("RGB"), "PNG"), "").pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_cut_file_of_each_format_is_refused(kind: str) -> None:
    content = saved(Image.effect_noise((60, 60), 80).convert("RGB"), kind)
    assert ImageReader(PROCESSOR, GRID).read(content, "").pixels.shape == (1, 3, 28, 28)
    for size in (0, 4, len(content) // 3):
        with pytest.raises(DataError, match=r"messages\.0: the image is corrupt"):
            ImageReader(PROCESSOR, GRID).read(content[:size], "messages.0")


def test_other_formats_are_not_decoded() -> None:
    for kind in ("TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(DataError, match="none of PNG"):
            ImageReader(PROCESSOR, GRID).read(saved(Image.new("RGB", (32, 32)), kind), "")


def test_images_are_the_same_by_their_pixels() -> None:
    image = Image.effect_noise((40, 30), 80).convert("RGB")
    reader = ImageReader(PROCESSOR, GRID)
    first, again = (reader.read(saved(image, "PNG", compress_level=level), "") for level in (1, 9))
    assert first.key == again.key
    assert reader.read(saved(image.rotate(90), "PNG"), "").key != first.key
