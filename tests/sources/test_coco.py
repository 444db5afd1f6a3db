from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import Findings, detect, open_source
from vistune.sources._annotated import Rules


def read(folder: Path, split: str | None = "train", **options: Any) -> list[ImageRecord]:
    return list(open_source("coco", folder, split, **options))


def read_findings(folder: Path, **options: Any) -> tuple[list[ImageRecord], Findings]:
    source = open_source("coco", folder, **options)
    return list(source), source.findings


def change(file: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_captions_and_boxes_of_an_image_come_together(coco: Path) -> None:
    street, only_captions, only_boxes = read(coco, "train")
    assert street == ImageRecord(
        id="7",
        image=coco / "images" / "street.jpg",
        width=200,
        height=100,
        captions=("A dog and some people.", "Two words"),
        boxes=(Box("dog", 0.1, 0.1, 0.6, 0.6), Box("person", 0.7525, 0.0, 1.0, 0.596, crowd=True)),
        origin=f"{coco / 'instances_train.json'}: image 7",
    )
    assert (only_captions.id, only_captions.captions, only_captions.boxes) == ("8", ("A picture.",), ())
    assert (only_boxes.id, only_boxes.captions, only_boxes.boxes) == ("9", (), (Box("person", 0, 0, 1, 1),))


def test_either_file_is_enough(coco: Path) -> None:
    assert [record.id for record in read(coco / "captions_train.json", None)] == ["7", "8"]
    assert [record.id for record in read(coco / "instances_train.json", None)] == ["7", "9"]
    (coco / "captions_train.json").unlink()
    assert [record.id for record in read(coco, "train")] == ["7", "9"]


def test_the_layout_of_the_real_coco(tmp_path: Path, coco: Path) -> None:
    for name in ("annotations", "train2014", "val2014"):
        (tmp_path / "real" / name).mkdir(parents=True)
    annotations = tmp_path / "real" / "annotations"
    for name in ("captions_train2014", "instances_train2014", "captions_val2014", "instances_val2014"):
        shutil.copy(coco / f"{name.partition('_')[0]}_train.json", annotations / f"{name}.json")
    shutil.copy(coco / "instances_train.json", annotations / "person_keypoints_train2014.json")
    shutil.copy(coco / "images" / "street.jpg", tmp_path / "real" / "train2014")
    whole = read(tmp_path / "real", "train2014")
    assert whole == read(tmp_path / "real", "train") == read(tmp_path / "real", None)
    assert [(one.image.is_file(), len(one.captions), len(one.boxes)) for one in whole[:1]] == [(True, 2, 2)]
    assert whole[2].image == tmp_path / "real" / "train2014" / "boxes only.jpg"  # it is missing
    shutil.copy(coco / "captions_train.json", annotations / "captions_train2017.json")
    with pytest.raises(AnnotationError, match=r"no split 'train'\n  fix: --split NAME with one of: train2014, "):
        read(tmp_path / "real", "train")


def test_images_in_sub_folders(coco: Path) -> None:
    (coco / "images" / "deep").mkdir()
    (coco / "images" / "street.jpg").rename(coco / "images" / "deep" / "street.jpg")
    for file in coco.glob("*.json"):
        change(file, lambda it: it["images"][0].update(file_name="deep/street.jpg"))
    assert read(coco, "train")[0].image.is_file()


@pytest.mark.parametrize(
    ("section", "index", "values", "message"),
    [
        ("images", 0, {"width": 100}, "captions_train.json has another file name or size"),
        ("images", 1, {"width": 50.5}, "'width' is not a size in pixels: 50.5"),
        ("images", 1, {"id": 7}, "another image of this file has the same id"),
        ("images", 1, {"id": [9]}, "'id' is neither a number nor a text"),
        ("annotations", 0, {"bbox": [20, 10, 30]}, "'bbox' is not [x, y, width, height]"),
        ("annotations", 0, {"bbox": [20, 10, 30, float("nan")]}, "'bbox' is not"),
        ("annotations", 0, {"bbox": [20, 10, "30", 5]}, "'bbox' is not"),
        ("annotations", 0, {"image_id": 88}, "no image with the id 88"),
        ("categories", 0, {"name": ""}, "the category's name is not a text"),
        ("categories", 0, {"id": 18}, "'person' and 'dog' have the same id"),
    ],
)
def test_a_mistake_in_the_instances_names_file_and_record(
    coco: Path, section: str, index: int, values: dict[str, Any], message: str
) -> None:
    file = coco / "instances_train.json"
    change(file, lambda content: content[section][index].update(values))
    record = json.loads(file.read_text())[section][index]
    singular = {"images": "image", "annotations": "annotation", "categories": "category"}[section]
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value).startswith(f"{file}: {singular} {record['id']}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"caption": None}, "the caption is not a text: null"),
        ({"image_id": 5}, "there is no image with the id 5"),
    ],
)
def test_a_mistake_in_the_captions_names_file_and_record(coco: Path, values: dict[str, Any], message: str) -> None:
    file = coco / "captions_train.json"
    change(file, lambda content: content["annotations"][1].update(values))
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value).startswith(f"{file}: annotation 2: {message}")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda content: content["annotations"][1].pop("bbox"),
            "annotation 2: 'bbox' is not [x, y, width, height]: null",
        ),
        (lambda content: content["annotations"][0].update(category_id=19), "no category with the id 19"),
        (lambda content: content["images"][1].pop("id"), "images[1]: the key 'id' is missing"),
        (lambda content: content["images"].append(3), "images[2]: this is not an object"),
        (lambda content: content.pop("categories"), "there is no category with the id 18"),
    ],
)
def test_a_file_of_another_shape(coco: Path, edit: Callable[[Any], object], message: str) -> None:
    file = coco / "instances_train.json"
    change(file, edit)
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_bad_records_can_be_left_out(coco: Path) -> None:
    def spoil(content: Any) -> None:
        content["images"][1]["file_name"] = 9
        for annotation in content["annotations"][:2]:
            annotation["bbox"] = [0, 0, 0]

    change(coco / "instances_train.json", spoil)
    errors: list[AnnotationError] = []
    records = read(coco, "train", on_error=errors.append)
    assert [(record.id, record.captions) for record in records] == [("8", ("A picture.",))]
    assert [error.where.partition(": ")[2] for error in errors] == ["image 9", "annotation 1"]


def test_a_mistake_in_one_file_leaves_the_image_out_of_the_other_too(coco: Path) -> None:
    change(coco / "captions_train.json", lambda content: content["annotations"][0].update(caption=3))
    change(coco / "instances_train.json", lambda content: content["images"][0].update(width=100))
    errors: list[AnnotationError] = []
    assert [record.id for record in read(coco, "train", on_error=errors.append)] == ["8", "9"]
    assert len(errors) == 1


def test_a_bad_box_costs_a_box(coco: Path) -> None:
    def spoil(content: Any) -> None:
        content["annotations"][0].update(bbox=[-1, 99, 202, 2])  # within a pixel: rounding
        rows = [[150, 60, 100, 100], [20, 10, 30, 0], [210, 10, 30, 10], [5, 5, 9, -4], [3, 3, 9, 9], [3, 3, 9, 9]]
        rows_ = [{"id": 10 + n, "image_id": 7, "category_id": 18, "bbox": row} for n, row in enumerate(rows)]
        content["annotations"] += rows_

    change(coco / "instances_train.json", spoil)
    records, findings = read_findings(coco)
    corners = [(box.x1, box.y1, box.x2, box.y2) for box in records[0].boxes]
    assert corners == [(0, 0.99, 1, 1), (0.7525, 0, 1, 0.596), (0.75, 0.6, 1, 1), (0.015, 0.03, 0.06, 0.12)]
    assert (findings.clipped, findings.without_area, findings.doubled) == (1, 3, 1)
    with pytest.raises(AnnotationError, match=r"image 7, box 3: the box .* of 'dog' sticks out of its image\n  fix: "):
        read(coco, rules=Rules(strict=True))


def test_an_annotation_may_come_before_its_image_and_its_category(coco: Path) -> None:
    before = read(coco)
    for file in coco.glob("*.json"):
        change(file, lambda content: content.update(images=content.pop("images")))
        change(file, lambda content: content.update(categories=content.pop("categories", [])))
    assert read(coco) == before


def test_what_tools_write_in_coco_s_format(tmp_path: Path) -> None:
    """Roboflow's names, Label Studio's backslashes, polygons without a box, captions without sizes, other machines."""
    (tmp_path / "train" / "images").mkdir(parents=True)
    names = ("one.jpg", "two.jpg", "images/three.jpg")
    for name in names:
        Image.new("RGB", (100, 50)).save(tmp_path / "train" / name)
    written = ("one.jpg", "C:\\data\\TWO.JPEG", "\\..\\images\\three.jpg")
    content = {
        "images": [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(written)],
        "categories": [{"id": 0, "name": "Traffic_Light", "supercategory": "none"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 0, "segmentation": [[10, 10, 30, 10, 30, 40]], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 0, "bbox": [], "segmentation": [[0, 0, 9, 9], [50, 5, 60, 20]]},
            {"id": 3, "image_id": 2, "segments_info": [{"category_id": 0, "bbox": [0, 0, 10, 10], "iscrowd": 1}]},
        ],
    }
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    assert detect(tmp_path) == "coco"
    records, findings = read_findings(tmp_path)
    assert [str(record.image.relative_to(tmp_path / "train")) for record in records] == list(names)
    assert findings.missing == 0
    assert [record.boxes[0] for record in records] == [
        Box("traffic light", 0.1, 0.2, 0.3, 0.8), Box("traffic light", 0, 0, 0.6, 0.4),
        Box("traffic light", 0, 0, 0.1, 0.2, crowd=True),
    ]  # fmt: skip
    captions = {"images": [{"id": 1, "file_name": "one.jpg"}], "annotations": [{"image_id": 1, "caption": "A dog."}]}
    (tmp_path / "result.json").write_text(json.dumps(captions))
    assert read(tmp_path / "result.json", None)[0].captions == ("A dog.",)


@pytest.mark.parametrize("text", ["{", "", '{"images": [', "\xff", "[1]", "[" * 100_000])
def test_a_file_that_is_no_json_object(coco: Path, text: str) -> None:
    file = coco / "captions_train.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value).startswith(f"{file}: ")
    assert "not valid JSON" in str(caught.value) or "COCO's format is an object" in str(caught.value)


def test_a_wrong_path(coco: Path) -> None:
    with pytest.raises(AnnotationError, match=r"coc: there is no such file or folder\n  fix: did you mean 'coco'\?"):
        read(coco.parent / "coc", "train")
    with pytest.raises(AnnotationError, match=r"no split 'tran'\n  fix: did you mean 'train'\?"):
        read(coco, "tran")
    with pytest.raises(AnnotationError, match=r"there are no annotations of this format: it holds 3 .jpg"):
        read(coco / "images", "train")


def test_missing_images_are_counted(coco: Path) -> None:
    (coco / "images" / "street.jpg").unlink()
    _, findings = read_findings(coco)
    assert (findings.images, findings.missing) == (3, 1)
    assert list(findings.lines()) == [f"1 of 3 image files are missing, such as {coco / 'images' / 'street.jpg'}"]


def test_several_files_of_one_split_are_not_mixed(coco: Path) -> None:
    shutil.copy(coco / "captions_train.json", coco / "more captions train.json")
    shutil.copy(coco / "instances_train.json", coco / "boxes train.json")
    (coco / "instances_train.json").unlink()
    with pytest.raises(AnnotationError, match=r"several files of one split: boxes train.json, more"):
        read(coco)


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    images, polygon = 400, [[float(n) for n in range(2000)]]
    rows = [{"id": n, "image_id": n % images, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": polygon}
            for n in range(6000)]  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 10, "height": 10} for n in range(images)],
        "annotations": rows, "categories": [{"id": 1, "name": "dog"}],
    }  # fmt: skip
    (tmp_path / "big.json").write_text(json.dumps(content))
    size = (tmp_path / "big.json").stat().st_size
    del content, rows
    tracemalloc.start()
    assert sum(len(record.boxes) for record in open_source("coco", tmp_path / "big.json")) == images
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 4
