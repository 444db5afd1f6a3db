"""Annotation files with any mistake: errors with their place, or records; never a traceback, a hang, a way out."""

from __future__ import annotations

import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from annotation_tools import FIXTURES, TOOLS, draw, write_json
from vistune.errors import VistuneError
from vistune.recipe.generation import AnnotationOptions
from vistune.sources import open_annotations, open_source

EXAMPLES = (*TOOLS, *FIXTURES)


def read(name: str | None, path: Path, **options: object) -> int:
    """The number of records, once more without those that are wrong."""
    opened = open_source(name, path, on_error=lambda _: None, **options)  # type: ignore[arg-type]
    return len(list(opened))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("what", ["empty", "pipe", "circle", "folder", "zeros"])
def test_what_is_no_file(name: str, what: str, examples: dict[str, Path]) -> None:
    """In the place of each annotation file: nothing is waited for, nothing read without end."""
    path = examples[name]
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.suffix in (".json", ".jsonl", ".xml", ".csv", ".txt", ".tar", ".yaml", ".parquet", ".tsv", ".caption"):
            file.unlink()
            if what == "pipe":
                os.mkfifo(file)
            elif what == "circle":
                file.symlink_to(file.name)
            elif what == "folder":
                file.mkdir()
            elif what == "zeros":
                file.symlink_to("/dev/zero")
            else:
                file.touch()
    for source in (name, None):
        with suppress(VistuneError):
            records = list(open_source(source, path, on_error=lambda _: None))
            assert not any(record.captions or record.boxes for record in records)


def test_a_link_to_its_own_folder_is_followed_once(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("A dog.")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read("sidecar", tmp_path) == 1
    assert read(None, tmp_path) == 1


@pytest.mark.parametrize("keep", [0.9, 0.6, 0.5, 0.3])
def test_a_cut_tar_file_loses_nothing_in_silence(keep: float, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number in range(6):
            (tmp_path / "t").write_text("A dog.")
            tar.add(tmp_path / "a.png", f"{number}.png")
            tar.add(tmp_path / "t", f"{number}.txt")
        end = tar.offset
    whole = (tmp_path / "x.tar").read_bytes()
    assert read("webdataset", tmp_path / "x.tar") == 6
    cut = int(end * keep)
    for size in (cut, cut // 512 * 512, cut // 512 * 512 + 300):
        (tmp_path / "x.tar").write_bytes(whole[:size])
        with pytest.raises(VistuneError, match=r"x\.tar: not a whole tar file"):
            read("webdataset", tmp_path / "x.tar")
    (tmp_path / "x.tar").write_bytes(whole[:end])
    with pytest.raises(VistuneError, match="its end is missing"):
        read("webdataset", tmp_path / "x.tar")
    (tmp_path / "x.tar").write_bytes(whole + whole)
    with pytest.raises(VistuneError, match="goes on after its end"):
        read("webdataset", tmp_path / "x.tar")
    spoilt = bytearray(whole)
    spoilt[1024:1030] = b"\xff" * 6  # the head of the second member
    (tmp_path / "x.tar").write_bytes(spoilt)
    with pytest.raises(VistuneError, match="not a whole tar file"):
        read("webdataset", tmp_path / "x.tar")


def coco(folder: Path, **changes: object) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    return write_json(folder / "instances_train.json", content | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": [{"id": 1, "name": "dog"}, {"id": 1, "name": "cat"}]}, "'dog' and 'cat' have the same id"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "no"}]}, "'iscrowd' is"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 10**400]}]}, "'bbox' is not"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, float("nan")]}]}, "'bbox' is not"),
    ],
)
def test_what_would_be_read_as_something_else(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match=message):
        list(open_source("coco", coco(tmp_path, **changes)))


def test_two_columns_of_a_name_and_classes_without_one(tmp_path: Path, yolo: Path) -> None:
    (tmp_path / "x.csv").write_text("image,caption,caption\na.png,one,two\n")
    with pytest.raises(VistuneError, match="two columns have the name 'caption'"):
        list(open_source("captions", tmp_path / "x.csv"))
    label = yolo / "labels" / "train" / "dog.txt"
    label.write_text("0.7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(VistuneError, match="the class is no whole number"):
        list(open_source("yolo", yolo))
    settings_ = yolo / "data.yaml"
    settings_.write_text(settings_.read_text().replace("{0: dog, 1: rug}", "[null, rug]"))
    with pytest.raises(VistuneError, match="the class 0 has no name"):
        list(open_source("yolo", yolo))


def test_a_folder_of_images_that_is_not_there(tmp_path: Path) -> None:
    options = AnnotationOptions(data=str(coco(tmp_path)), images=str(tmp_path / "imags"))
    with pytest.raises(VistuneError, match=r"--images .*imags: there is no such folder"):
        open_annotations(options, default_split="train", warn=print)


@pytest.mark.parametrize("how", ["absolute", "dots", "link", "folder link"])
def test_images_stay_in_their_folder(how: str, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "x.png")
    (images := tmp_path / "images").mkdir()
    (images / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    name = {"absolute": f"{tmp_path}/elsewhere/x.png", "dots": "../elsewhere/x.png", "link": "link.png"}
    row = {"image": name.get(how, "folder/x.png"), "captions": ["A dog."]}
    path = write_json(tmp_path / "x.jsonl", row)
    options = AnnotationOptions(data=str(path), images=str(images), source="captions")
    with pytest.raises(VistuneError, match=r"is outside of the folder .*images\n.*--allow-outside"):
        list(open_annotations(options, default_split="train", warn=print))
    allowed = options.model_copy(update={"allow_outside": True})
    [record] = open_annotations(allowed, default_split="train", warn=print)
    assert record.image.samefile(tmp_path / "elsewhere" / "x.png")
