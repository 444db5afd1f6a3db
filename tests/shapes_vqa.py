"""Questions about drawn shapes with one answer each, as in easy-VQA, as people have such data: images and a CSV file.

python tests/shapes_vqa.py FOLDER
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "black", "gray", "teal", "brown", "yellow")
SHAPES = ("rectangle", "circle", "triangle")


def write(folder: Path, images: int = 200, seed: int = 0) -> Path:
    """Draw one shape an image, write two questions about each to `folder/questions.csv`; returns its path."""
    random_ = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "questions.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "question", "answer", "category"])
        for number in range(images):
            colour, shape = random_.choice(COLOURS), random_.choice(SHAPES)
            _draw(folder / f"{number}.png", colour, shape, random_)
            rows.writerow([f"{number}.png", "What color is the shape?", colour, "color"])
            rows.writerow([f"{number}.png", "What shape is in the image?", shape, "shape"])
    return path


def _draw(path: Path, colour: str, shape: str, random_: random.Random) -> None:
    image = Image.new("RGB", (64, 64), (230 + random_.randrange(26), 235, 240))
    size, x, y = random_.randint(16, 40), random_.randrange(22), random_.randrange(22)
    corners = (x, y, x + size, y + size)
    draw = ImageDraw.Draw(image)
    if shape == "triangle":
        draw.polygon([(x + size / 2, y), (x, y + size), (x + size, y + size)], fill=colour)
    else:
        (draw.ellipse if shape == "circle" else draw.rectangle)(corners, fill=colour)
    image.save(path)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
