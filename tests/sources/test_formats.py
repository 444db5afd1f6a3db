"""What each format says, its variants, and what is told of a broken file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import open_source


def read(source: str, path: Path, **options: Any) -> list[ImageRecord]:
    return list(open_source(source, path, options.pop("split", None), **options))


def captions_of(path: Path, content: str, **options: Any) -> dict[str, tuple[str, ...]]:
    path.write_text(content, "utf-8")
    return {record.id: record.captions for record in read("captions", path, **options)}


TWO = {"a/1": ("A dog.", "Brown, it is."), "2": ("A cat.",)}


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("x.csv", 'image,caption\na/1.jpg,A dog.\na/1.jpg,"Brown,  it is."\n2.jpg,A cat.\n', {}),
        ("x.csv", "\ufeffFile_Name;CAPTION\r\na/1.jpg;A dog.\r\na/1.jpg;Brown, it is.\r\n2.jpg;A cat.\r\n", {}),
        ("x.txt", "image_name| comment\na/1.jpg| A dog.\na/1.jpg| Brown, it is.\n2.jpg| A cat.\n", {}),
        ("x.tsv", "image\tone\ttwo\na/1.jpg\tA dog.\tBrown, it is.\n2.jpg\tA cat.\t\n",
         {"caption_column": ["one", "two"]}),
        ("x.jsonl", '{"image": "./a/1.jpg", "captions": ["A dog.", "Brown, it is."]}\n'
         '\n{"image": "2.jpg", "text": "A cat."}', {}),
        ("x.json", '[{"img": {"file": "a/1.jpg"}, "s": [{"raw": "A dog."}, {"raw": "Brown, it is."}]},'
                   ' {"img": {"file": "2.jpg"}, "s": [{"raw": "A cat."}]}]',
         {"image_column": "img.file", "caption_column": ["s.raw"]}),
        ("x.json", '{"path": "a/1.jpg", "caption": ["A dog.", "Brown, it is."]}\n'
         '{"path": "2.jpg", "caption": "A cat."}\n', {}),
    ],
)  # fmt: skip
def test_rows_in_many_forms(tmp_path: Path, name: str, content: str, options: dict[str, Any]) -> None:
    assert captions_of(tmp_path / name, content, **options) == TWO


def test_parquet_without_the_bytes_of_images(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"image": {"bytes": b"x" * 100, "path": "1.jpg"}, "caption": "A dog."}] * 2
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=1)
    (record,) = read("captions", tmp_path / "x.parquet")
    assert (record.id, record.captions) == ("1", ("A dog.",))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(AnnotationError, match=r"x.parquet: not a whole parquet file"):
        read("captions", tmp_path / "x.parquet")


def test_an_address_is_where_wget_would_put_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("url,caption\nhttps://a.org/b%20c/1.jpg?size=2,A dog.\n")
    (record,) = read("captions", tmp_path / "x.csv", images=tmp_path / "img")
    assert record.image == tmp_path / "img" / "a.org" / "b c" / "1.jpg"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            "picture_no,words\n1,A dog.\n",
            r"line 2: .*no column with images .*\n.*--image-column.*picture_no, words",
        ),
        ("x.csv", "image,caption\n1.jpg,A dog, brown.\n", r"line 2: it has 3 fields, and the first line has 2"),
        ("x.csv", 'image,caption\n1.jpg,"A dog.\n' + "x" * 140_000, "not valid CSV"),
        ("x.csv", "image,caption\n", "there is no record in it"),
        ("x.jsonl", '{"image": "1.jpg", "caption": "A dog."}\n{"image": ', r"x.jsonl: line 2: not valid JSON"),
        ("x.jsonl", '{"image": "1.jpg", "caption": "A dog."}\n[1]', r"x.jsonl: line 2: this is not an object"),
        ("x.jsonl", '{"image": 3, "caption": "A dog."}', r"line 1: the image is no path: 3"),
        ("x.jsonl", '{"image": "1.jpg", "caption": {"a": 1}}', r"line 1: a caption is no text"),
        ("x.json", '[{"image": "1.jpg", "caption": "A dog."}, {', r"record 1: not valid JSON: it is cut off"),
        ("x.json", '{"a": [\n1]}', "not a list of records"),
    ],
)
def test_broken_rows_name_the_file_and_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        captions_of(tmp_path / name, content)


def test_a_mistyped_column_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"no column 'captoin'\n  fix: did you mean 'caption'"):
        captions_of(tmp_path / "x.csv", "image,caption\n1.jpg,A dog.\n", caption_column=["captoin"])


def test_a_bad_record_is_told_once_however_often_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "1.jpg", "caption": "A."}\nbad\n{"image": 2, "caption": ""}\n')
    told: list[AnnotationError] = []
    source = open_source("captions", tmp_path / "x.jsonl", on_error=told.append)
    next(iter(source))
    assert [record.id for record in source] == [record.id for record in source] == ["1"]
    assert [error.where.rpartition(" ")[2] for error in told] == ["2", "3"]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"category": "dog", "bbox": [10, 20, 50, 90]}, "lies outside its image\n  fix: 'bbox' is .* in fractions"),
        ({"category": "dog", "bbox": [0.5, 0.2, 0.5, 0.9]}, "has no size"),
        ({"category": "dog", "bbox": [0.5, 0.2, 0.4, 0.9]}, "has no size"),
        ({"category": "dog", "bbox": [0.5, 0.2, 0.4]}, "not four numbers"),
        ({"category": "dog", "bbox": [0.1, 0.2, float("nan"), 0.9]}, "not four numbers"),
        ({"category": "", "bbox": [0.1, 0.2, 0.3, 0.9]}, "the category is no text"),
        ("dog", "this is no object"),
    ],
)
def test_caps_boxes_are_checked(tmp_path: Path, instance: Any, message: str) -> None:
    good = [["cat", [0, 0, 1, 1]], {"category": "dog", "bbox": [-0.004, 0.2, 1.003, 0.9]}]
    rows = [{"file_name": name, "instances": boxes} for name, boxes in (("1.jpg", [*good, instance]), ("2.jpg", good))]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told: list[AnnotationError] = []
    (record,) = read("caps_boxes", tmp_path / "x.jsonl", on_error=told.append)
    assert (record.id, record.boxes) == ("2", (Box("cat", 0, 0, 1, 1), Box("dog", 0, 0.2, 1, 0.9)))
    assert len(told) == 1
    with pytest.raises(AnnotationError, match=rf"x.jsonl: line 1, instances\[2\]: .*{message}"):
        raise told[0]


def test_a_mistake_in_one_row_of_an_image_leaves_the_image_out(tmp_path: Path) -> None:
    box = {"category": "dog", "bbox": [0.1, 0.2, 0.3, 0.4]}
    other = {"category": "dog", "bbox": [0.5, 0.2, 0.7, 0.4]}
    rows = [("1.jpg", box), ("1.jpg", {"category": "dog", "bbox": [0, 0, 9, 9]}), ("1.jpg", other)]
    rows += [("2.jpg", box), ("2.jpg", other), ("2.jpg", box), (None, box), ("2.jpg", box), ("./", box)]
    lines = [json.dumps({"image": image, "instances": [box]}) for image, box in rows]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    told: list[AnnotationError] = []
    (record,) = read("caps_boxes", tmp_path / "x.jsonl", on_error=told.append)
    assert (record.id, len(record.boxes)) == ("2", 2)
    assert [error.where.rpartition("x.jsonl: ")[2] for error in told] == ["line 2, instances[0]", "line 7", "line 9"]


def test_a_record_with_one_bad_box_is_left_out_as_a_whole(yolo: Path, voc: Path) -> None:
    with (yolo / "labels" / "train" / "dog.txt").open("a") as file:
        file.write("0 0.5 0.5 50 50\n1 0.5 0.5 60 60\n")
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
        ("0 0.5 0.5 0.1 x", "not all of it are numbers"),
        ("0 50 50 10 10", "lies outside"),
        ("0 0.5 0.5 0 0.1", "has no size"),
        ("0 nan 0.5 0.1 0.1", "not all of it are finite"),
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmax>50", "<xmax>150", "object 0: .*lies outside"),
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
    with pytest.raises(AnnotationError, match="the image's size is not known"):
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


def test_a_tar_file_that_is_cut_off(webdataset: Path) -> None:
    shard = webdataset / "0.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(AnnotationError, match=r"0.tar"):
        read("webdataset", webdataset)


def test_boxes_of_datasets(datasets: Path) -> None:
    import datasets as hf  # type: ignore[import-untyped]

    records = read("datasets", datasets, split="train")
    assert [record.id for record in records] == ["7", "8", "9"]
    assert records[0].boxes == (Box("dog", 0.1, 0, 0.5, 1),)
    assert (records[0].width, records[0].height) == (100, 50)
    corners = read("datasets", datasets, split="train", box_format="xyxy")
    assert corners[0].boxes == (Box("dog", 0.1, 0, 0.4, 1),)
    bad = [{"bbox": [0, 0, 50, 50], "category": "dog"}, {"bbox": [0, 0, 500, 50], "category": "dog"}]
    rows = [{"image": f"{n}.png", "width": 100, "height": 50, "objects": bad[:n]} for n in (1, 2)]
    hf.Dataset.from_list(rows).save_to_disk(datasets.parent / "bad")
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
