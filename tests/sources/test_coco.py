from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources.coco import Coco, CocoFiles, find_coco, read_coco


def read(folder: Path, split: str, **options: Any) -> list[ImageRecord]:
    return list(Coco(folder, split, **options))


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
    images = coco / "images"
    assert [record.id for record in read_coco(coco / "captions_train.json", None, images)] == ["7", "8"]
    assert [record.id for record in read_coco(None, coco / "instances_train.json", images)] == ["7", "9"]
    (coco / "captions_train.json").unlink()
    assert find_coco(coco, "train") == (None, coco / "instances_train.json", images, True)


def test_the_layout_of_the_real_coco(tmp_path: Path) -> None:
    for name in ("annotations", "train2014", "val2014"):
        (tmp_path / name).mkdir()
    for name in ("captions_train2014", "instances_train2014", "person_keypoints_train2014", "captions_val2014"):
        (tmp_path / "annotations" / f"{name}.json").touch()
    expected = CocoFiles(
        tmp_path / "annotations/captions_train2014.json",
        tmp_path / "annotations/instances_train2014.json",
        tmp_path / "train2014",
    )
    assert find_coco(tmp_path, "train2014") == find_coco(tmp_path, "train") == expected
    assert find_coco(tmp_path, "val").instances is None
    (tmp_path / "annotations" / "captions_train2017.json").touch()
    with pytest.raises(AnnotationError, match="no split 'train'\n  fix: one of: train2014, train2017"):
        find_coco(tmp_path, "train")


def test_images_in_sub_folders(coco: Path) -> None:
    (coco / "images" / "deep").mkdir()
    (coco / "images" / "street.jpg").rename(coco / "images" / "deep" / "street.jpg")
    for file in coco.glob("*.json"):
        change(file, lambda it: it["images"][0].update(file_name="deep/street.jpg"))
    assert read(coco, "train")[0].image.is_file()


@pytest.mark.parametrize(
    ("section", "index", "values", "message"),
    [
        ("images", 1, {"file_name": "box only.jpg"}, "is missing\n  fix: did you mean 'boxes only.jpg'?"),
        ("images", 0, {"width": 100}, "captions_train.json has another file name or size"),
        ("images", 1, {"width": 0}, "not sizes in pixels: [0, 50]"),
        ("images", 1, {"width": 50.5}, "not sizes in pixels: [50.5, 50]"),
        ("images", 1, {"id": 7}, "another image of this file has the same id"),
        ("images", 1, {"id": [9]}, "'id' is neither a number nor a text"),
        ("annotations", 0, {"bbox": [20, 10, 185, 50]}, "outside its image of 200 x 100 pixels (street.jpg)"),
        ("annotations", 0, {"bbox": [-2, 10, 50, 50]}, "lies outside"),
        ("annotations", 0, {"bbox": [20, 60, 50, 50]}, "lies outside"),
        ("annotations", 0, {"bbox": [200, 10, 0.5, 50]}, "lies outside"),
        ("annotations", 0, {"bbox": [20, 10, 0, 50]}, "the box has no size: [20, 10, 0, 50]"),
        ("annotations", 0, {"bbox": [20, 10, 30, -5]}, "the box has no size"),
        ("annotations", 0, {"bbox": [20, 10, 30]}, "'bbox' is not [x, y, width, height]"),
        ("annotations", 0, {"bbox": [20, 10, 30, float("nan")]}, "'bbox' is not"),
        ("annotations", 0, {"bbox": [20, 10, "30", 5]}, "'bbox' is not"),
        ("annotations", 0, {"category_id": 19}, "no category with the id 19"),
        ("annotations", 0, {"image_id": 8}, "no image with the id 8"),
        ("categories", 0, {"name": ""}, "the category's name is not a text"),
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
        ({"caption": " \n"}, "the caption is empty"),
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


def rename_box(content: Any) -> None:
    content["annotations"][1]["box"] = content["annotations"][1].pop("bbox")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rename_box, "annotation 2: the key 'bbox' is missing\n  fix: rename 'box'?"),
        (lambda content: content["images"][1].pop("id"), "images[1]: the key 'id' is missing"),
        (lambda content: content["images"].append(3), "images[2]: this is not an object"),
        (lambda content: content.pop("categories"), "the file: the key 'categories' is missing"),
        (lambda content: content.update(annotations={}), "'annotations' is not a list"),
    ],
)
def test_a_file_of_another_shape(coco: Path, edit: Callable[[Any], object], message: str) -> None:
    file = coco / "instances_train.json"
    change(file, edit)
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value) == f"{file}: {message}"


def test_bad_records_can_be_left_out(coco: Path) -> None:
    def spoil(content: Any) -> None:
        content["images"][1]["file_name"] = "gone.jpg"
        for annotation in content["annotations"][:2]:
            annotation["bbox"] = [0, 0, 0, 0]

    change(coco / "instances_train.json", spoil)
    errors: list[AnnotationError] = []
    records = read(coco, "train", on_error=errors.append)
    assert [(record.id, record.captions) for record in records] == [("8", ("A picture.",))]
    assert [error.where.partition(": ")[2] for error in errors] == ["image 9", "annotation 1"]


def test_a_mistake_in_one_file_leaves_the_image_out_of_the_other_too(coco: Path) -> None:
    change(coco / "captions_train.json", lambda content: content["annotations"][0].update(caption=""))
    change(coco / "instances_train.json", lambda content: content["images"][0].update(width=100))
    errors: list[AnnotationError] = []
    assert [record.id for record in read(coco, "train", on_error=errors.append)] == ["8", "9"]
    assert len(errors) == 1


def test_boxes_are_clipped_up_to_a_pixel(coco: Path) -> None:
    change(coco / "instances_train.json", lambda it: it["annotations"][0].update(bbox=[-1, 99, 202, 2]))
    box = read(coco, "train")[0].boxes[0]
    assert (box.x1, box.y1, box.x2, box.y2) == (0, 0.99, 1, 1)


@pytest.mark.parametrize("text", ["{", "", '{"images": [', "\xff", "[1]", "[" * 100_000])
def test_a_file_that_is_no_json_object(coco: Path, text: str) -> None:
    file = coco / "captions_train.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError) as caught:
        read(coco, "train")
    assert str(caught.value).startswith(f"{file}: ")
    assert "not valid JSON" in str(caught.value) or "COCO's format is an object" in str(caught.value)


def test_a_wrong_path(coco: Path) -> None:
    with pytest.raises(AnnotationError, match=r"coc: there is no such folder\n  fix: did you mean 'coco'\?"):
        read(coco.parent / "coc", "train")
    with pytest.raises(AnnotationError, match="this is a file, not a folder"):
        read(coco / "captions_train.json", "train")
    with pytest.raises(AnnotationError, match=r"no split 'tran'\n  fix: did you mean 'train'\?"):
        read(coco, "tran")
    with pytest.raises(AnnotationError, match="no annotation files"):
        read(coco / "images", "train")
    with pytest.raises(AnnotationError, match=r"there is no such file\n  fix: did you mean 'captions_train.json'\?"):
        read_coco(coco / "caption_train.json", None, coco / "images")
    with pytest.raises(AnnotationError, match=r"there is no such folder\n  fix: did you mean 'images'\?"):
        read_coco(coco / "captions_train.json", None, coco / "image")


def test_annotations_without_their_images_are_enough(coco: Path) -> None:
    before = read(coco, "train")
    (coco / "images").rename(coco / "pictures")
    after = read(coco, "train")
    assert [(one.id, one.captions, one.boxes) for one in after] == [(one.id, one.captions, one.boxes) for one in before]
    assert after[0].image == coco / "train" / "street.jpg"
