from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.demo.dataset import captions, write_dataset
from vistune.demo.scenes import categories, is_novel, sample_scene
from vistune.records import ImageRecord
from vistune.scene.english import counted
from vistune.scene.facts import counts
from vistune.sources import open_source

SIZES = {"train": 120, "val": 10, "test": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("emoji")
    write_dataset(out, seed=3, **SIZES)
    return out


def read(folder: Path, split: str) -> list[ImageRecord]:
    return list(open_source("coco", folder, split))


def annotations(folder: Path, kind: str, split: str) -> dict[str, Any]:
    content = json.loads((folder / f"{kind}_{split}.json").read_text())
    assert isinstance(content, dict)
    return content


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_dataset(tmp_path / name, seed=seed, train=4, val=2, test=2)
    content = {
        name: {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    }
    assert content["a"] == content["b"]
    assert content["a"].keys() == content["c"].keys()
    changed = {name for name, data in content["a"].items() if data != content["c"][name]}
    assert changed == content["a"].keys() - {"ATTRIBUTION.md"}


def test_an_image_does_not_depend_on_the_sizes(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=3, train=2, val=1, test=1)
    for split in SIZES:
        some, all_of_them = read(tmp_path, split), read(folder, split)
        assert [record.captions for record in some] == [record.captions for record in all_of_them[: len(some)]]
        assert some[0].id == all_of_them[0].id
        assert some[0].image.read_bytes() == all_of_them[0].image.read_bytes()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_coco_source_reads_it_with_nothing_lost(folder: Path, split: Any) -> None:
    records = read(folder, split)
    assert len(records) == SIZES[split]
    for index, record in enumerate(records):
        scene = sample_scene(split, 3, index)
        assert record.captions == captions(scene, random.Random(f"captions/{split}/3/{index}"))
        assert [box.category for box in record.boxes] == [box.category for box in scene.boxes]
        for box, drawn in zip(record.boxes, scene.boxes, strict=True):
            corners = [(box.x1, drawn.x1), (box.y1, drawn.y1), (box.x2, drawn.x2), (box.y2, drawn.y2)]
            assert max(abs(a - b) for a, b in corners) * 224 < 0.011
        with Image.open(record.image) as image:
            assert (image.size, image.mode, image.format) == ((record.width, record.height), "RGB", "JPEG")


def test_the_files_have_the_keys_of_coco(folder: Path) -> None:
    ids: set[int] = set()
    for split, size in SIZES.items():
        instances, told = annotations(folder, "instances", split), annotations(folder, "captions", split)
        assert {"info", "licenses", "images", "annotations"} == set(told) == set(instances) - {"categories"}
        assert "CC BY-SA 4.0" in instances["info"]["description"]
        assert told["images"] == instances["images"]
        assert {"id", "file_name", "width", "height", "license"} <= set(told["images"][0])
        assert {tuple(row) for row in instances["categories"]} == {("id", "name", "supercategory")}
        images = {row["id"] for row in told["images"]}
        assert len(images) == size
        assert not images & ids
        ids |= images
        for content in (instances, told):
            keys = [row["id"] for row in content["annotations"]]
            assert len(set(keys)) == len(keys)
        for row in instances["annotations"]:
            x, y, width, height = row["bbox"]
            assert row["area"] == pytest.approx(width * height, abs=0.01)
            assert row["segmentation"][0][:2] == [x, y]
            assert (row["iscrowd"], row["image_id"] in images) == (0, True)
    assert "openmoji.org" in (folder / "ATTRIBUTION.md").read_text()


def test_categories_are_cocos() -> None:
    ids = {name: category.id for name, category in categories().items()}
    assert len(set(ids.values())) == len(ids) >= 50
    some = {"person": 1, "dog": 18, "umbrella": 28, "pizza": 59, "laptop": 73, "teddy bear": 88}
    assert {name: ids[name] for name in some} == some


def test_every_image_has_five_captions_that_differ_and_name_what_is_there(folder: Path) -> None:
    for record in read(folder, "train"):
        assert len(set(record.captions)) == 5
        for name, count in counts(record.boxes).items():
            told = sum(counted(name, count) in caption.lower() for caption in record.captions)
            assert told >= 4  # the fifth may tell the relation of two others


def test_the_test_split_holds_what_training_never_shows(folder: Path) -> None:
    def pairs(records: list[ImageRecord]) -> set[tuple[str, ...]]:
        names = [sorted({box.category for box in record.boxes}) for record in records]
        return {pair for found in names for pair in combinations(found, 2)}

    train, val, test = (read(folder, split) for split in SIZES)
    assert not any(is_novel(record.boxes) for record in train + val)
    novel = [record for record in test if is_novel(record.boxes)]
    assert 0.3 < len(novel) / len(test) < 0.7
    assert pairs(test) - pairs(train)
