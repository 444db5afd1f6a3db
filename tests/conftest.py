from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

COCO: dict[str, dict[str, Any]] = {
    "instances": {
        "images": [
            {"id": 7, "file_name": "street.jpg", "width": 200, "height": 100},
            {"id": 9, "file_name": "boxes only.jpg", "width": 50, "height": 50},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [20.0, 10.0, 100.0, 50.0], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [150.5, -0.4, 50.2, 60], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    },
    "captions": {
        "images": [
            {"id": 7, "file_name": "street.jpg", "width": 200, "height": 100},
            {"id": 8, "file_name": "captions only.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "A dog and some people.\n"},
            {"id": 2, "image_id": 8, "caption": "A picture."},
            {"id": 3, "image_id": 7, "caption": " Two  words "},
        ],
    },
}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A folder in COCO's format, split `train`: an image with captions and boxes, one with either alone."""
    folder = tmp_path / "coco"
    (folder / "images").mkdir(parents=True)
    for kind, content in COCO.items():
        (folder / f"{kind}_train.json").write_text(json.dumps(content))
        for row in content["images"]:
            Image.new("RGB", (row["width"], row["height"]), "gray").save(folder / "images" / row["file_name"])
    return folder
