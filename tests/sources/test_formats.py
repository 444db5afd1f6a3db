"""What each format but rows says, its variants, and what is told of a broken file."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import detect, open_source


def read(source: str, path: Path, **options: Any) -> list[ImageRecord]:
    return list(open_source(source, path, options.pop("split", None), **options))


def test_a_record_with_one_bad_box_is_left_out_as_a_whole(yolo: Path, voc: Path) -> None:
    with (yolo / "labels" / "train" / "dog.txt").open("a") as file:
        file.write("0 0.5 0.5 0.1 x\n1 0.5 0.5 y 60\n")
    (yolo / "labels" / "train" / "tree.txt").write_bytes(b"\xff")
    told: list[AnnotationError] = []
    assert [Path(one.id).name for one in read("yolo", yolo, split="train", on_error=told.append)] == ["cat"]
    assert [error.where.rpartition("/")[2] for error in told] == ["dog.txt: line 3", "tree.txt"]
    xml = voc / "Annotations" / "dog.xml"
    bad = "<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"
    xml.write_text(xml.read_text().replace("</annotation>", f"{bad}{bad}</annotation>"))
    told.clear()
    assert [one.id for one in read("voc", voc, on_error=told.append)] == ["cat"]
    assert [error.where for error in told] == [f"{xml}: object 1"]


def label(yolo: Path, line: str, name: str = "dog") -> tuple[Box, ...]:
    (yolo / "labels" / "train" / f"{name}.txt").write_text(line)
    return next(record.boxes for record in read("yolo", yolo, split="train") if record.id.endswith(name))


def test_yolo_boxes_polygons_and_predictions(yolo: Path) -> None:
    box = (Box("dog", 0.25, 0.25, 0.75, 0.5),)
    assert label(yolo, "0 0.5 0.375 0.5 0.25") == label(yolo, "0 0.5 0.375 0.5 0.25 0.93") == box
    assert label(yolo, "0 0.25 0.25 0.75 0.3 0.5 0.5\n\n") == box
    assert label(yolo, "") == ()
    (yolo / "data.yaml").write_text((yolo / "data.yaml").read_text() + "kpt_shape: [1, 3]\n")
    assert label(yolo, "0 0.5 0.375 0.5 0.25 0.1 0.1 2") == box


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.5 0.5 0.1 0.1", r"line 1: there is no name for the class 7; .*\n  fix: add it to .*data.yaml"),
        ("0 0.5 0.5 0.1", "it has 4 numbers"),
        ("0 0.5 0.5 0.1 x", "not all values are numbers"),
        ("0 50 50 10 10", r"line 1: the box .* of 'dog' is not in fractions"),
        ("0 nan 0.5 0.1 0.1", "not all values are finite"),
    ],
)
def test_yolo_labels_are_checked(yolo: Path, line: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=rf"dog.txt: .*{message}"):
        label(yolo, line)


def test_yolo_layouts(yolo: Path, tmp_path: Path) -> None:
    whole = [(Path(record.id).name, record.boxes) for record in read("yolo", yolo, split="train")]
    (yolo / "data.yaml").unlink()
    with pytest.raises(AnnotationError, match="the classes have no names"):
        read("yolo", yolo, split="train")
    (tmp_path / "names").write_text("dog\nrug\n")

    def again(folder: Path) -> list[tuple[str, tuple[Box, ...]]]:
        found = read("yolo", folder, split="train", category_names=tmp_path / "names")
        return [(Path(record.id).name, record.boxes) for record in found]

    assert again(yolo) == whole
    for kind in ("images", "labels"):  # Roboflow's
        (tmp_path / "roboflow" / "train").mkdir(parents=True, exist_ok=True)
        (yolo / kind / "train").rename(tmp_path / "roboflow" / "train" / kind)
    assert again(tmp_path / "roboflow") == whole
    (tmp_path / "flat").mkdir()
    for file in (tmp_path / "roboflow" / "train").glob("*/*"):  # all in one folder
        file.rename(tmp_path / "flat" / file.name)
    assert again(tmp_path / "flat") == whole
    for file in (tmp_path / "flat").glob("*.txt"):
        file.unlink()
    with pytest.raises(AnnotationError, match="none of the 3 images has a label file"):
        again(tmp_path / "flat")


def test_voc_counts_pixels_from_one(voc: Path) -> None:
    dog, cat = read("voc", voc, split="train")
    assert (dog.id, dog.width, dog.height, dog.boxes) == ("dog", 100, 50, (Box("dog", 0.1, 0, 0.5, 1),))
    assert cat.image == voc / "JPEGImages" / "cat.png"
    assert [record.id for record in read("voc", voc)] == ["cat", "dog"]
    with (voc / "ImageSets" / "Main" / "train.txt").open("a") as file:
        file.write("dogg\n")
    with pytest.raises(
        AnnotationError, match=r"dogg.xml: .*\n  fix: did you mean 'dog.xml'\? .* 'dogg' is in .*train.txt"
    ):
        read("voc", voc, split="train")


def test_folders_of_splits_are_splits_and_names_of_files_are_not(voc: Path) -> None:
    """As Roboflow exports VOC: of all files in train, valid and test only the first are for training."""
    for number, split in enumerate(("train", "valid", "test")):
        for name in ("dog", "cat"):
            (voc.parent / "set" / split).mkdir(parents=True, exist_ok=True)
            new = voc.parent / "set" / split / f"test_{number}_{name}"
            new.with_suffix(".png").write_bytes((voc / "JPEGImages" / f"{name}.png").read_bytes())
            xml = (voc / "Annotations" / f"{name}.xml").read_text()
            new.with_suffix(".xml").write_text(xml.replace(f"{name}.png", f"{new.name}.png"))
    assert [one.id for one in read("voc", voc.parent / "set")] == ["test_0_cat", "test_0_dog"]
    assert [one.id for one in read("voc", voc.parent / "set", split="val")] == ["test_1_cat", "test_1_dog"]
    assert [one.id for one in open_source(None, voc.parent / "set", default_split="test")] == [
        "test_2_cat",
        "test_2_dog",
    ]
    draw = read("voc", voc.parent / "set" / "valid")
    assert [one.image.parent.name for one in draw] == ["valid", "valid"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmin>11</xmin>", "", "object 0: 'bndbox' does not have four numbers"),
        ("</annotation>", "", "not valid XML"),
    ],
)
def test_voc_is_checked(voc: Path, old: str, new: str, message: str) -> None:
    file = voc / "Annotations" / "dog.xml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(AnnotationError, match=rf"dog.xml: {message}"):
        read("voc", voc)


def test_voc_takes_an_unknown_size_from_the_image(voc: Path) -> None:
    file = voc / "Annotations" / "dog.xml"
    file.write_text(file.read_text().replace("<width>100", "<width>0"))
    assert (read("voc", voc, split="train")[0].width, read("voc", voc, split="train")[0].height) == (100, 50)
    (voc / "JPEGImages" / "dog.png").unlink()
    with pytest.raises(AnnotationError, match=r"the size of the image dog.png is not known"):
        read("voc", voc)


def test_sidecar_texts(sidecar: Path) -> None:
    found = {record.id: record.captions for record in read("sidecar", sidecar)}
    assert found["train/a/dog"] == ("A dog on a rug.", "A brown dog.")
    assert found["train/tree"] == ("A tall tree.", "Ein Baum.")
    (sidecar / "train" / "tree.json").write_text("{")
    with pytest.raises(AnnotationError, match=r"tree.json: not valid JSON"):
        read("sidecar", sidecar)
    Image.new("RGB", (4, 4)).save(sidecar.parent / "bare.png")
    (sidecar.parent / "bare").mkdir()
    (sidecar.parent / "bare.png").rename(sidecar.parent / "bare" / "1.png")
    with pytest.raises(AnnotationError, match=r"none of its 1 images has a text"):
        read("sidecar", sidecar.parent / "bare")


def test_labels_of_yolo_beside_the_images_are_not_captions(sidecar: Path) -> None:
    for file in ("a/dog.txt", "a/cat.caption", "tree.json"):
        (sidecar / "train" / file).unlink()
        (sidecar / "train" / file).with_suffix(".txt").write_text("2 0.133333 0.3e-1 0.2 0.1\n0 1 1 .5 .5\n")
    with pytest.raises(AnnotationError, match=r"tree.txt: the text holds numbers only.*\n  fix: .*--source yolo"):
        read("sidecar", sidecar)
    assert detect(sidecar) == "yolo"
    with pytest.raises(AnnotationError, match=r"the classes have no names\n  fix: write them to classes.txt"):
        open_source(None, sidecar)


def test_a_tar_file_that_is_cut_off(webdataset: Path) -> None:
    shard = webdataset / "0.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(AnnotationError, match=r"0.tar"):
        read("webdataset", webdataset)


def test_texts_without_an_image_in_a_tar_file(webdataset: Path) -> None:
    with tarfile.open(webdataset / "1.tar", "a") as tar:
        tar.add(webdataset / "0.tar", "bare.txt")
    told: list[AnnotationError] = []
    assert len(read("webdataset", webdataset, on_error=told.append)) == 3
    with pytest.raises(
        AnnotationError, match=r"1.tar: record bare: it has no image\n  fix: add the image to the tar file"
    ):
        raise told[0]


def test_boxes_of_datasets(datasets: Path) -> None:
    import datasets as hf  # type: ignore[import-untyped]

    records = read("datasets", datasets, split="train")
    assert [record.id for record in records] == ["7", "8", "9"]
    assert records[0].boxes == (Box("dog", 0.1, 0, 0.5, 1),)
    assert (records[0].width, records[0].height) == (100, 50)
    corners = read("datasets", datasets, split="train", box_format="xyxy")
    assert corners[0].boxes == (Box("dog", 0.1, 0, 0.4, 1),)
    bad = [{"bbox": [0, 0, 50, 50], "category": "dog"}, {"bbox": [0, 0, 50], "category": "dog"}]
    rows = [{"image": f"{n}.png", "width": 100, "height": 50, "objects": bad[:n]} for n in (1, 2)]
    hf.Dataset.from_list(rows).save_to_disk(datasets.parent / "bad")
    with pytest.raises(AnnotationError, match="no split 'val'\n  fix: one of: train"):
        read("datasets", datasets.parent / "bad", split="val")
    told: list[AnnotationError] = []
    assert [one.id for one in read("datasets", datasets.parent / "bad", on_error=told.append)] == ["1"]
    assert [error.where.rpartition(": ")[2] for error in told] == ["row 1, objects[1]"]
    with pytest.raises(AnnotationError, match="no column 'words'"):
        read("datasets", datasets, split="train", caption_column=["words"])


def test_an_imagefolder_with_its_metadata(tmp_path: Path) -> None:
    for name in ("a/1.png", "2.png"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(tmp_path / "folder" / name)
    rows = "file_name,text\na/1.png,A dog.\n2.png,A cat.\n"
    (tmp_path / "folder" / "metadata.csv").write_text(rows)
    records = read("datasets", tmp_path / "folder", split="train")
    assert {(record.id, record.captions) for record in records} == {("a/1", ("A dog.",)), ("2", ("A cat.",))}
    assert all(record.image.is_file() for record in records)
    with pytest.raises(AnnotationError, match="nope"):
        read("datasets", tmp_path / "folder", split="nope")
