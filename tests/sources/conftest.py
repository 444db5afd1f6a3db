"""A small real example of each format: three images, with captions or boxes as the format has them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

import annotation_tools
from annotation_tools import FIXTURES, TOOLS, draw

CAPTIONS = {"a/dog": ["A dog on a rug.", "A brown dog."], "a/cat": ["A cat."], "tree": ["A tall tree.", "Ein Baum."]}
"""Each image's captions."""


def images(folder: Path) -> None:
    for name in CAPTIONS:
        draw(folder / f"{name}.png")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A CSV file with a row for each caption."""
    images(tmp_path / "captions")
    with (tmp_path / "captions" / "all.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        rows.writerows((f"{name}.png", text) for name, texts in CAPTIONS.items() for text in texts)
    return tmp_path / "captions" / "all.csv"


@pytest.fixture
def caps_boxes(tmp_path: Path) -> Path:
    """LLaVA's JSON lines."""
    images(tmp_path / "caps")
    box = {"category": "dog", "bbox": [0.1, 0.2, 0.5, 1.0]}
    rows = [{"id": n, "image": f"{n}.png", "captions": texts, "instances": [box]} for n, texts in CAPTIONS.items()]
    (tmp_path / "caps" / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "caps" / "all.jsonl"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """The layout of Ultralytics: images/train, labels/train, data.yaml; one image without objects."""
    folder = tmp_path / "yolo"
    for name, label in (("dog", "0 0.3 0.6 0.4 0.8\n1 0.5 0.5 1 1\n"), ("cat", "1 .5 .5 .2 .2"), ("tree", "")):
        draw(folder / "images" / "train" / f"{name}.png")
        (folder / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (folder / "labels" / "train" / f"{name}.txt").write_text(label)
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/train\nnames: {0: dog, 1: rug}\n")
    return folder


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """The devkit's layout."""
    folder = tmp_path / "voc"
    for place in ("Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    for name in ("dog", "cat"):
        draw(folder / "JPEGImages" / f"{name}.png")
        box = "<bndbox><xmin>11</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox>"
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        source = "<source><database>The VOC2007 Database</database></source>"
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.png</filename>{source}<size><width>100</width><height>50</height></size>"
            f"<object><name>{name}</name>{box}{part}</object></annotation>"
        )
    (folder / "ImageSets" / "Main" / "train.txt").write_text("dog  1\ncat -1\n")
    return folder


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    """A text beside each image, in each of the endings."""
    folder = tmp_path / "sidecar"
    images(folder / "train")
    (folder / "train" / "a" / "dog.txt").write_text("A dog on a rug.\n\nA brown dog.\n")
    (folder / "train" / "a" / "cat.caption").write_text("A cat.")
    (folder / "train" / "tree.json").write_text(json.dumps({"captions": CAPTIONS["tree"]}))
    return folder


@pytest.fixture
def webdataset(tmp_path: Path) -> Path:
    """Two tar files."""
    (tmp_path / "tars").mkdir()
    picture = draw(tmp_path / "one.png")
    for number, (name, texts) in enumerate(CAPTIONS.items()):
        with tarfile.open(tmp_path / "tars" / f"{number // 2}.tar", "a") as tar:
            text = json.dumps({"caption": texts}) if number else "\n".join(texts)
            for ending, content in ((".png", picture), (".json" if number else ".txt", text.encode())):
                member = tarfile.TarInfo(name + ending)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return tmp_path / "tars"


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """What save_to_disk writes, with the hub's usual columns."""
    import datasets as hf  # type: ignore[import-untyped]

    draw(tmp_path / "one.png")
    objects = {"bbox": [[10.0, 0.0, 40.0, 50.0]], "category": [1]}
    rows = {
        "image": [str(tmp_path / "one.png")] * 3, "image_id": [7, 8, 9], "caption": ["A dog.", "A cat.", "A tree."],
        "objects": [objects] * 3,
    }  # fmt: skip
    names = hf.ClassLabel(names=["cat", "dog"])
    boxes = {"bbox": hf.List(hf.List(hf.Value("float32"))), "category": hf.List(names)}
    features = hf.Features(
        {"image": hf.Image(), "image_id": hf.Value("int64"), "caption": hf.Value("string"), "objects": boxes}
    )
    hf.DatasetDict({"train": hf.Dataset.from_dict(rows, features=features)}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def examples(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """A sound data set of each format."""
    made = {}
    for name in (*TOOLS, *FIXTURES):
        (folder := tmp_path / "sound" / name).mkdir(parents=True)
        made[name] = getattr(annotation_tools, name)(folder) if name in TOOLS else request.getfixturevalue(name)
    return made
