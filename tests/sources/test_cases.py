"""Data as people have it: exports of annotation tools and their oddities, each with what is read of it."""

from __future__ import annotations

import contextlib
import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from annotation_tools import TOOLS, cvat, draw, run_fix, write_json
from vistune.cli import main
from vistune.errors import AnnotationError, VistuneError
from vistune.generate.run import Generation
from vistune.recipe.generation import AnnotationOptions, GenerateRecipe
from vistune.sources import open_annotations, open_source
from vistune.sources._annotated import Rules
from vistune.sources._category_names import readable

Found = dict[str, list[Any]]
"""Of each image's path its captions, or its categories and corners in fractions."""
DOG = [("dog", 0.1, 0.0, 0.5, 1.0)]


def found_in(path: Path, root: Path, **options: Any) -> Found:
    """What is read of a path in the format that is detected; every image must be there."""
    source = open_source(None, path, **options)
    records = list(source)
    assert list(source.findings.lines()) == []
    return {
        record.image.relative_to(root).as_posix(): list(record.captions)
        + [(box.category, *(round(side, 6) for side in (box.x1, box.y1, box.x2, box.y2))) for box in record.boxes]
        for record in records
    }


def coco_file(
    path: Path, image: str, box: tuple[int, ...] = (10, 0, 40, 50), size: tuple[int, int] = (100, 50)
) -> Path:
    """A file in COCO's format with one box, [x, y, width, height], on one image."""
    images = [{"id": 0, "width": size[0], "height": size[1], "file_name": image}]
    boxes = [{"id": 0, "image_id": 0, "category_id": 1, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}]
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "dog"}]
    about = {"info": {"year": "2026", "version": "1"}, "licenses": [{"id": 1, "name": "CC BY 4.0", "url": ""}]}
    return write_json(path, about | {"categories": categories, "images": images, "annotations": boxes})


def roboflow(root: Path) -> Found:
    draw(root / "train" / "1_jpg.rf.0a1b.jpg")
    coco_file(root / "train" / "_annotations.coco.json", "1_jpg.rf.0a1b.jpg")
    return {"train/1_jpg.rf.0a1b.jpg": DOG}


def label_studio_coco(root: Path) -> Found:
    """Written on Windows, and with the number of the project."""
    draw(root / "images" / "90fbb0c7-a.jpg")
    coco_file(root / "result.json", "images\\1/90fbb0c7-a.jpg")
    return {"images/90fbb0c7-a.jpg": DOG}


def labelme2coco(root: Path) -> Found:
    draw(root / "JPEGImages" / "a.jpg")
    coco_file(root / "instances_train.json", "JPEGImages/a.jpg")
    return {"JPEGImages/a.jpg": DOG}


def darknet(root: Path) -> Found:
    """CVAT's export "YOLO 1.1": paths start from the folder of Darknet's program."""
    draw(root / "obj_train_data" / "1.jpg")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "train.txt").write_text("data/obj_train_data/1.jpg\n")
    (root / "obj_train_data" / "1.txt").write_text("1 0.3 0.5 0.4 1.0\n")
    return {"obj_train_data/1.jpg": DOG}


def tensorflow_csv(root: Path) -> Found:
    """The rows of an image apart from each other, the images beside the file's folder."""
    draw(root / "images" / "1.jpg")
    draw(root / "images" / "2.jpg")
    (root / "data").mkdir()
    (root / "data" / "train_labels.csv").write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "1.jpg,100,50,dog,10,0,50,50\n2.jpg,100,50,dog,10,0,50,50\n1.jpg,100,50,cat,0,0,10,50\n"
    )
    return {"images/1.jpg": [*DOG, ("cat", 0.0, 0.0, 0.1, 1.0)], "images/2.jpg": DOG}


def cc3m(root: Path) -> Found:
    """Neighbouring addresses that differ in their query only are two images."""
    picture = draw(root / "a.org" / "other.jpg")
    for number in (1, 2):
        (root / "a.org" / f"pic.jpg?id={number}").write_bytes(picture)
    address = "https://a.org/pic.jpg?id="
    (root / "cc3m.tsv").write_text(f"a dog on a rug .\t{address}1\nauthor : a life\t{address}2\n")
    return {"a.org/pic.jpg?id=1": ["a dog on a rug ."], "a.org/pic.jpg?id=2": ["author : a life"]}


def flickr8k(root: Path) -> Found:
    draw(root / "Images" / "1_b0e.jpg")
    (root / "Flickr8k.token.txt").write_text("1_b0e.jpg#0\tA dog .\n1_b0e.jpg#1\tA brown dog .\n")
    return {"Images/1_b0e.jpg": ["A dog .", "A brown dog ."]}


def voc_in_other_folders(root: Path) -> Found:
    """A name without an ending, in folders in lower case."""
    draw(root / "images" / "a.jpg")
    (root / "annots").mkdir()
    box = "<bndbox><xmin>10</xmin><ymin>0</ymin><xmax>50</xmax><ymax>50</ymax></bndbox>"
    (root / "annots" / "a.xml").write_text(
        "<annotation><folder>images</folder><filename>a</filename><size><width>100</width><height>50</height></size>"
        f"<object><name>dog</name>{box}</object></annotation>"
    )
    return {"images/a.jpg": DOG}


def old_labelme(root: Path) -> Found:
    """LabelMe's XML: sub-folders in parallel, a deleted object, a mask, a name that two images have."""
    draw(root / "Images" / "train" / "sub" / "a.jpg")
    draw(root / "Images" / "train" / "a.jpg")
    corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((10, 0), (50, 0), (50, 50)))
    gone = f"<object><name>cat</name><deleted>1</deleted><polygon>{corners}</polygon></object>"
    dog = f"<object><name>dog</name><deleted>0</deleted><polygon>{corners}</polygon></object>"
    mask = "<xmin>10</xmin><ymin>0</ymin><xmax>50</xmax><ymax>50</ymax>"
    masked = f"<object><name>dog</name><segm><mask>a_0.png</mask><box>{mask}</box></segm></object>"
    for folder, found in (("", dog), ("sub/", masked)):
        file = root / "Annotations" / "train" / folder / "a.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"<annotation><filename>a.jpg</filename><folder>train</folder><imagesize><nrows>50</nrows><ncols>100</ncols>"
            f"</imagesize>{gone}{found}</annotation>"
        )
    return {"Images/train/a.jpg": DOG, "Images/train/sub/a.jpg": DOG}


def supervision_yolo(root: Path) -> Found:
    """data.yaml has the names and no folders; the image's name has dots, spaces, capitals and no ASCII."""
    draw(root / "images" / "café 猫 1.v2.JPG")
    (root / "labels").mkdir()
    draw(root / "images" / "more" / "b.jpg")
    (root / "labels" / "café 猫 1.v2.txt").write_text("1 0.3 0.5 0.4 1.0\n")
    (root / "data.yaml").write_text("nc: 2\nnames: [cat, dog]\n")
    return {"images/café 猫 1.v2.JPG": DOG, "images/more/b.jpg": []}


def label_studio_yolo(root: Path) -> Found:
    """The export within another folder, as its archive is unpacked."""
    draw(root / "project-1" / "images" / "90fbb0c7-a.jpg")
    (root / "project-1" / "labels").mkdir()
    (root / "project-1" / "labels" / "90fbb0c7-a.txt").write_text("1 0.3 0.5 0.4 1.0\n")
    (root / "project-1" / "classes.txt").write_text("cat\ndog\n")
    write_json(root / "project-1" / "notes.json", {"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2026}})
    return {"project-1/images/90fbb0c7-a.jpg": DOG}


def label_studio_csv(root: Path) -> Found:
    draw(root / "images" / "90fbb0c7-a.jpg")
    dog = {"x": 10, "y": 0, "width": 40, "height": 100, "rotation": 0, "rectanglelabels": ["dog"]}
    label = json.dumps([dog | {"original_width": 100, "original_height": 50}]).replace('"', '""')
    (root / "result.csv").write_text(
        f'"annotation_id","annotator","id","image","label"\n3,"1",1,"/data/upload/1/90fbb0c7-a.jpg","{label}"\n'
    )
    return {"images/90fbb0c7-a.jpg": DOG}


def via_csv(root: Path) -> Found:
    draw(root / "a.jpg")
    draw(root / "b.jpg")
    cells = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
             "region_attributes"]  # fmt: skip
    shape = json.dumps({"name": "rect", "x": 10, "y": 0, "width": 40, "height": 50})
    rows = [["a.jpg", 9, json.dumps({"caption": "A dog."}), 1, 0, shape, json.dumps({"type": "dog"})],
            ["b.jpg", 9, "{}", 0, 0, "{}", "{}"]]  # fmt: skip
    with (root / "via_export_csv.csv").open("w", newline="") as file:
        csv.writer(file).writerows([cells, *rows])
    return {"a.jpg": ["A dog.", *DOG], "b.jpg": []}


def via_coco(root: Path) -> Found:
    """Ids of images are numbers there, and texts in the annotations."""
    draw(root / "a.jpg")
    file = coco_file(root / "via_export_coco.json", "a.jpg")
    file.write_text(file.read_text().replace('"image_id": 0', '"image_id": "0"'))
    return {"a.jpg": DOG}


def kitti_by_labelformat(root: Path) -> Found:
    """A type of two words; values that are not known are -1 and -10."""
    draw(root / "image_2" / "a.jpg")
    (root / "label_2").mkdir()
    (root / "label_2" / "a.txt").write_text("hot dog -1 -1 -10 10.0 0.0 50.0 50.0 -1 -1 -1 -1000 -1000 -1000 -10\n")
    return {"image_2/a.jpg": [("hot dog", *DOG[0][1:])]}


def datumaro_coco(root: Path) -> Found:
    """Captions with a category without meaning, beside labels of whole images, and boxes without a polygon."""
    draw(root / "images" / "train" / "a.jpg")
    coco_file(root / "annotations" / "instances_train.json", "a.jpg")
    images = [{"id": 0, "width": 100, "height": 50, "file_name": "a.jpg"}]
    caption = [{"id": 1, "image_id": 0, "category_id": 0, "caption": "A dog."}]
    captions = {"licenses": [], "info": {}, "categories": [], "images": images, "annotations": caption}
    write_json(root / "annotations" / "captions_train.json", captions)
    label = [{"id": 1, "image_id": 0, "category_id": 1, "score": 1.0}]
    write_json(root / "annotations" / "labels_train.json", captions | {"annotations": label})
    return {"images/train/a.jpg": ["A dog.", *DOG]}


def datumaro_cvat(root: Path) -> Found:
    """A mask of the whole image's size, of which the runs say where it is."""
    draw(root / "images" / "a.jpg")
    runs = "1010," + ",".join(["40, 60"] * 29) + ",40,1050"
    (root / "train.xml").write_text(
        '<annotations><version>1.1</version><image id="0" name="a.jpg" width="100" height="50">'
        f'<mask label="dog" rle="{runs}" left="0" top="0" width="100" height="50"/></image></annotations>'
    )
    return {"images/a.jpg": [("dog", 0.1, 0.2, 0.5, 0.8)]}


EXPORTS = [
    roboflow, label_studio_coco, labelme2coco, darknet, tensorflow_csv, cc3m, flickr8k, voc_in_other_folders,
    old_labelme, supervision_yolo, label_studio_yolo, label_studio_csv, via_csv, via_coco, kitti_by_labelformat,
    datumaro_coco, datumaro_cvat,
]  # fmt: skip
ONE_FILE = [export for export in EXPORTS if export not in (
    old_labelme, supervision_yolo, label_studio_yolo, datumaro_coco, kitti_by_labelformat
)]  # fmt: skip


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_an_export_is_read_as_it_is(export: Callable[[Path], Found], tmp_path: Path) -> None:
    assert export(tmp_path) == found_in(tmp_path, tmp_path)


@pytest.mark.parametrize("export", ONE_FILE, ids=lambda export: export.__name__)
def test_its_file_is_enough(export: Callable[[Path], Found], tmp_path: Path) -> None:
    """`--annotations FILE --images DIR`."""
    expected = export(tmp_path)
    endings = (".json", ".data", ".csv", ".tsv", ".token.txt", ".xml")
    [file] = [one for one in tmp_path.rglob("*") if one.name.endswith(endings)]
    assert found_in(file, tmp_path, images=tmp_path) == expected


@pytest.mark.parametrize("named", ["the features", "a file"])
def test_categories_that_are_numbers(named: str, tmp_path: Path) -> None:
    import datasets as hf  # type: ignore[import-untyped]

    draw(tmp_path / "set" / "train" / "1.png")
    row = {"file_name": "1.png", "objects": {"bbox": [[10, 0, 40, 50]], "categories": [1]}}
    (tmp_path / "set" / "train" / "metadata.jsonl").write_text(json.dumps(row))
    (tmp_path / "names").write_text("cat\ndog\n")
    options: dict[str, Any] = {"category_names": tmp_path / "names"}
    path = tmp_path / "set"
    if named == "the features":
        names = hf.ClassLabel(names=["cat", "dog"])
        boxes = {"bbox": hf.List(hf.List(hf.Value("float32"))), "categories": hf.List(names)}
        features = hf.Features({"file_name": hf.Value("string"), "objects": boxes})
        hf.Dataset.from_list([row], features=features).save_to_disk(tmp_path / "saved")
        path, options = tmp_path / "saved", {}
        draw(path / "1.png")
    else:
        with pytest.raises(AnnotationError, match=r"numbers without names, such as 1\n  fix: .*--category-names FILE"):
            list(open_source("datasets", path))
    [record] = open_source("datasets", path, **options)
    assert [(box.category, box.x1, box.y1, box.x2, box.y2) for box in record.boxes] == DOG


@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_are_turned_with_the_image(orientation: int, tmp_path: Path) -> None:
    """The pixels of the box in the image as it is seen are those that were boxed in the stored one."""
    stored = Image.new("RGB", (100, 50))
    stored.paste("red", (60, 5, 90, 15))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    source = open_source("coco", coco_file(tmp_path / "x.json", "a.png", box=(60, 5, 30, 10)))
    [record] = source
    with Image.open(tmp_path / "a.png") as opened:
        seen = ImageOps.exif_transpose(opened)
    assert (record.width, record.height) == seen.size
    [box] = record.boxes
    corners = (box.x1 * seen.width, box.y1 * seen.height, box.x2 * seen.width, box.y2 * seen.height)
    assert tuple(map(round, corners)) == seen.getbbox()
    assert source.findings.turned == 1


@pytest.mark.parametrize(
    ("orientation", "size", "sure"),
    [(1, (50, 50), True), (6, (50, 50), False), (2, (100, 50), False), (3, (100, 50), False), (6, (50, 100), True)],
)
def test_where_the_size_does_not_say_how_boxes_were_drawn_it_is_said(
    orientation: int, size: tuple[int, int], sure: bool, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = size if orientation < 5 else size[::-1]
    Image.new("RGB", stored).save(tmp_path / "a.jpg", exif=exif)
    source = open_source("coco", coco_file(tmp_path / "x.json", "a.jpg", box=(10, 5, 30, 10), size=size))
    for _ in range(2):
        [record] = source
        assert (record.boxes[0].x1, record.boxes[0].y1) == (10 / size[0], 5 / size[1])
        assert source.findings.unsure == (not sure)
    said = ["images turned by EXIF data, with boxes read as drawn after (nothing says so): 1"]
    assert list(source.findings.lines()) == ([] if sure else said)


def test_fractions_do_not_say_it_either(tmp_path: Path) -> None:
    supervision_yolo(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 100)).save(tmp_path / "images" / "café 猫 1.v2.JPG", exif=exif)
    source = open_source("yolo", tmp_path)
    assert [round(box.x1, 6) for record in source for box in record.boxes] == [0.1]
    assert source.findings.unsure == 1


@pytest.mark.parametrize(
    ("database", "first"),
    [("The VOC2007 Database", 1), ("roboflow.ai", 1), ("Unknown", 0), ("", 0)],
)
def test_pixels_of_voc_count_as_its_writer_counts(database: str, first: int, tmp_path: Path) -> None:
    voc_in_other_folders(tmp_path)
    file = tmp_path / "annots" / "a.xml"
    source = f"<source><database>{database}</database></source>"
    file.write_text(file.read_text().replace("<size>", f"{source}<size>", 1).replace("<xmin>10", f"<xmin>{10 + first}"))
    assert found_in(tmp_path, tmp_path) == {"images/a.jpg": DOG}


def lvis(root: Path) -> Path:
    """Addresses and no names; annotations first; an image says for which categories not everything is boxed."""
    draw(root / "train2017" / "000000000009.jpg")
    images = [{
        "id": 9, "width": 100, "height": 50, "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg",
        "neg_category_ids": [2], "not_exhaustive_category_ids": [1], "license": 1,
    }]  # fmt: skip
    box = [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [10, 0, 40, 50], "area": 9, "segmentation": [[1, 2, 3]]}]
    categories = [{"id": number, "name": name, "synset": "x.n.01", "frequency": "f"} for number, name in
                  ((1, "bat_(animal)"), (2, "dog"))]  # fmt: skip
    return write_json(root / "lvis_v1_val.json", {"annotations": box, "images": images, "categories": categories})


def open_images(root: Path) -> Path:
    draw(root / "train" / "1.jpg")
    (root / "class-descriptions-boxable.csv").write_text("/m/0bt9lr,Dog\n/m/01yrx,Cat\n")
    (root / "train-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "1,xclick,/m/0bt9lr,1,0.1,0.5,0,1,0,0,0,0,0\n"
    )
    return root / "train-annotations-bbox.csv"


def brushed(root: Path) -> Path:
    """Label Studio's tasks, of which one object is a mask, as it is not read."""
    [file] = TOOLS["label_studio"](root).glob("*.json")
    tasks = json.loads(file.read_text())
    for task in tasks[:2]:
        mask = {"id": "m", "type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["cow"]}}
        task["annotations"][1]["result"].append(mask)
    return write_json(file, tasks)


@pytest.mark.parametrize("make", [lvis, open_images, TOOLS["visual_genome"], brushed])
def test_of_a_federated_set_no_absence_is_stated(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = open_source(None, make(tmp_path))
    records = list(source)
    assert records[0].boxes[0].category in ("bat", "dog")
    said = f"images with boxes of some categories only; no absence is stated: {len(records)}"
    assert list(source.findings.lines()) == [said]
    assert Generation(GenerateRecipe(data=str(tmp_path))).plan().vocabulary == ()


def test_annotations_of_another_size(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    file = coco_file(tmp_path / "x.json", "a.png", size=(400, 200), box=(40, 0, 160, 200))
    with pytest.raises(AnnotationError, match=r"a.png has 100 x 50 pixels, .* say 400 x 200\n  fix: add --scale-boxes"):
        list(open_source("coco", file))
    source = open_source("coco", file, rules=Rules(scale_boxes=True))
    [record] = source
    assert (record.width, record.height, record.boxes[0].x2) == (100, 50, 0.5)
    assert list(source.findings.lines()) == ["images of another size than annotated, with boxes scaled: 1"]


def test_a_run_without_samples_is_an_error_with_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_file(tmp_path / "x.json", "a.png", box=(10, 10, 0, 30))
    assert main(["generate", str(tmp_path), "--out", str(tmp_path / "out")]) != 0
    printed = capsys.readouterr().err
    assert "there are no samples: 1 images, 0 boxes and 0 captions were read; 1 of 1 image files are missing" in printed
    assert "boxes without area, left out: 1" in printed


def test_a_shape_without_a_label_costs_a_box(tmp_path: Path) -> None:
    file = cvat(tmp_path) / "annotations.xml"
    bare = '<polyline label="" points="1.0,2;3,4"/><polygon points="1,2;3,4;6,5"/>'
    file.write_text(file.read_text().replace("<points", f"{bare}<points"))
    source = open_source("cvat", file)
    assert [[box.category for box in record.boxes] for record in source] == [["dog"], ["cat"] * 3]
    assert list(source.findings.lines()) == ["boxes without a label, left out: 2"]
    with pytest.raises(AnnotationError, match=r"image 0, polyline 2: the box .* of '' has no label\n  fix: .*--strict"):
        list(open_source("cvat", file, rules=Rules(strict=True)))
    for path in (tmp_path, file):
        with pytest.raises(AnnotationError, match=r"root <annotations>\n  fix: .* --source cvat --show") as raised:
            open_source("voc", path)
        assert [type(one.source).__name__ for one in run_fix(raised.value)] == ["Cvat"]


def test_categories_get_the_names_of_the_table(tmp_path: Path) -> None:
    file = cvat(tmp_path) / "annotations.xml"
    file.write_text(file.read_text().replace('ellipse label="cat"', 'ellipse label="Guinea_Pig"'))
    (tmp_path / "names.yaml").write_text("dog:\nguinea pig: cavy\nbird: sparrow\n")
    printed: list[str] = []
    options = AnnotationOptions(data=str(file), rename=str(tmp_path / "names.yaml"))
    source = open_annotations(options, default_split="train", warn=printed.append)
    assert [[box.category for box in record.boxes] for record in source] == [[], ["cat", "cavy", "cat"]]
    assert list(source.findings.lines()) == [
        "boxes left out by --rename: 1", "--rename has names that no box has: bird",
    ]  # fmt: skip
    assert printed == [f"{file}: detected as cvat"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("traffic_light", "traffic light"), ("Dog", "dog"), ("DOG", "dog"), ("TrafficLight", "traffic light"),
        ("diningtable", "dining table"), ("tvmonitor", "TV monitor"), ("RBC", "RBC"), ("B747", "B747"),
        ("Bat_(animal)", "bat"), ("T-Shirt", "T-shirt"), ("  large   vehicle ", "large vehicle"),
        ("MOTORCYCLE", "motorcycle"), ("Christmas_tree", "Christmas tree"),
    ],
)  # fmt: skip
def test_names_of_categories_are_made_readable(written: str, read: str) -> None:
    assert readable(written) == read
    assert readable(read) == read


@pytest.mark.parametrize("tool", ["labelme", "label_studio", "via", "visual_genome", "datumaro", "karpathy"])
def test_values_of_any_other_type_are_an_error_and_no_traceback(tool: str, tmp_path: Path) -> None:
    rng, path = random.Random(0), TOOLS[tool](tmp_path)
    file = next(iter(sorted(tmp_path.rglob("*.json"))))
    whole = file.read_text()
    for _ in range(60):
        changed = json.loads(whole)
        place = changed
        while isinstance(place, (dict, list)) and place:
            parent, key = place, rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = parent[key]
            if rng.random() < 0.3:
                break
        parent[key] = rng.choice([None, -1.5, "x", [], {}, [1], True])
        file.write_text(json.dumps(changed))
        with contextlib.suppress(VistuneError):
            list(open_source(tool, path))
