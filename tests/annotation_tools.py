"""Small data sets in the shapes that annotation tools write: the same two images and boxes in each."""

from __future__ import annotations

import base64
import io
import json
import shlex
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from vistune.errors import AnnotationError
from vistune.sources import AnnotatedImages, open_source

TOOLS = ("cvat", "labelme", "label_studio", "via", "visual_genome", "dota", "kitti", "datumaro", "karpathy", "lines",
         "img2dataset", "box_rows")  # fmt: skip
FIXTURES = ("coco", "captions", "caps_boxes", "yolo", "voc", "sidecar", "webdataset")
"""The tools, and the formats whose examples are fixtures."""
SIZE = (100, 50)
BOX = (10, 0, 50, 50)
"""Of the dog on dog.png, in pixels: x1, y1, x2, y2."""


def draw(path: Path) -> bytes:
    """A gray picture of 100 x 50 pixels, written to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, "gray").save(path)
    return path.read_bytes()


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def cvat(folder: Path) -> Path:
    """The export "CVAT for images 1.1": annotations.xml and images/."""
    draw(folder / "images" / "dog.png")
    draw(folder / "images" / "cat.png")
    (folder / "annotations.xml").write_text("""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>pets</name><size>2</size><mode>annotation</mode>
    <labels><label><name>dog</name><color>#ff6037</color><type>any</type><attributes></attributes></label></labels>
  </task></meta>
  <image id="0" name="dog.png" width="100" height="50" subset="train" task_id="4">
    <box label="dog" source="manual" occluded="1" xtl="10.00" ytl="0.00" xbr="50.00" ybr="50.00" z_order="0">
      <attribute name="tame">true</attribute>
    </box>
    <points label="dog" occluded="0" points="3.1,2.0" z_order="0"></points>
    <tag label="indoors" source="manual"></tag>
  </image>
  <image id="1" name="cat.png" width="100" height="50" subset="train" task_id="4">
    <polygon label="cat" occluded="0" points="10.0,5.0;30.0,5.0;20.0,25.0" z_order="0"></polygon>
    <ellipse label="cat" cx="50.0" cy="20.0" rx="10.0" ry="5.0" rotation="90.0"></ellipse>
    <mask label="cat" rle="1, 2, 3" left="70" top="10" width="20" height="30"></mask>
  </image>
</annotations>""")
    return folder


def labelme(folder: Path) -> Path:
    """A JSON file beside each image, as labelme 5 saves it."""
    for name, shapes in (
        ("dog", [("dog", "rectangle", [[50.0, 50.0], [10.0, 0.0]]), ("nose", "point", [[3.0, 3.0]])]),
        ("cat", [("cat", "polygon", [[10.0, 5.0], [30.0, 5.0], [20.0, 25.0]]),
                 ("ball", "circle", [[60.0, 20.0], [60.0, 30.0]])]),
    ):  # fmt: skip
        draw(folder / f"{name}.png")
        rows = [
            {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
            for label, kind, points in shapes
        ]
        write_json(folder / f"{name}.json", {
            "version": "5.4.1", "flags": {}, "shapes": rows, "imagePath": f"..\\\\raw\\\\{name}.png", "imageData": None,
            "imageHeight": 50, "imageWidth": 100,
        })  # fmt: skip
    return folder


def label_studio(folder: Path) -> Path:
    """The export JSON, with the images of the export COCO beside it."""
    region = {"original_width": 100, "original_height": 50, "image_rotation": 0, "origin": "manual"}
    region |= {"from_name": "label", "to_name": "image"}
    dog = {"x": 10, "y": 0, "width": 40, "height": 100, "rotation": 0, "rectanglelabels": ["dog"]}
    cat = {"points": [[10, 10], [30, 10], [20, 50]], "closed": True, "polygonlabels": ["cat"]}
    results = {
        "dog": [region | {"id": "a", "type": "rectanglelabels", "value": dog},
                {"id": "c", "type": "textarea", "from_name": "text", "value": {"text": ["A dog."]}}],
        "cat": [region | {"id": "b", "type": "polygonlabels", "value": cat},
                region | {"id": "d", "type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["nose"]}}],
    }  # fmt: skip
    tasks = []
    for number, (name, result) in enumerate(results.items(), 1):
        draw(folder / "images" / f"{name}.png")
        annotations = [
            {"id": 1, "completed_by": 1, "was_cancelled": True, "ground_truth": False, "result": []},
            {"id": 2, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": result},
        ]
        tasks.append({
            "id": number, "annotations": annotations, "file_upload": f"90fbb0c7-{name}.png", "drafts": [],
            "predictions": [], "data": {"image": f"/data/upload/1/90fbb0c7-{name}.png"}, "meta": {}, "project": 1,
        })  # fmt: skip
    tasks.append(tasks[0] | {"id": 3, "annotations": []})  # not annotated
    write_json(folder / "project-1-at-2026-01-01.json", tasks)
    return folder


def via(folder: Path) -> Path:
    """A project of VIA 2."""
    draw(folder / "dog.png")
    draw(folder / "cat.png")
    dog = {"shape_attributes": {"name": "rect", "x": 10, "y": 0, "width": 40, "height": 50},
           "region_attributes": {"class": "dog", "tame": "yes"}}  # fmt: skip
    cats = [
        {"shape_attributes": {"name": "polygon", "all_points_x": [10, 30, 20], "all_points_y": [5, 5, 25]},
         "region_attributes": {"type": {"cat": True, "bird": False}}},
        {"shape_attributes": {"name": "circle", "cx": 60, "cy": 20, "r": 10}, "region_attributes": {"type": "cat"}},
        {"shape_attributes": {"name": "point", "cx": 60, "cy": 20}, "region_attributes": {"type": "nose"}},
    ]  # fmt: skip
    images = {
        f"{name}.png123": {"filename": f"{name}.png", "size": 123, "regions": regions, "file_attributes": attributes}
        for name, regions, attributes in (("dog", [dog], {"caption": "A dog."}), ("cat", cats, {}))
    }
    settings = {"ui": {"image": {}}, "core": {"buffer_size": 18}, "project": {"name": "pets"}}
    write_json(folder / "via_project.json", {
        "_via_settings": settings, "_via_img_metadata": images, "_via_attributes": {"region": {}, "file": {}},
        "_via_data_format_version": "2.0.10", "_via_image_id_list": list(images),
    })  # fmt: skip
    return folder


def visual_genome(folder: Path) -> Path:
    """objects.json and image_data.json of version 1.4, with the images of part 2."""
    objects = {
        1: [{"synsets": ["dog.n.01"], "h": 50, "object_id": 5, "merged_object_ids": [], "names": ["dog"], "w": 40,
             "y": 0, "x": 10}],
        2: [{"synsets": [], "h": 20, "object_id": 6, "names": ["cat", "kitten"], "w": 20, "y": 5, "x": 10}],
    }  # fmt: skip
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/{}.jpg"
    for number in objects:
        draw(folder / "VG_100K_2" / f"{number}.jpg")
    rows = [{"image_id": n, "objects": found, "image_url": url.format(n)} for n, found in objects.items()]
    write_json(folder / "objects.json", rows)
    sizes = {"width": 100, "height": 50, "coco_id": None, "flickr_id": None}
    write_json(folder / "image_data.json", [{"image_id": n, "url": url.format(n), **sizes} for n in objects])
    return folder


def dota(folder: Path) -> Path:
    """DOTA 1.0: images and labelTxt, with the two lines about the photograph."""
    draw(folder / "images" / "P0001.png")
    draw(folder / "images" / "P0002.png")
    for name, line in (("P0001", "10 0 50 0 50 50 10 50 large-vehicle 0"), ("P0002", "20 0 30 10 20 20 10 10 ship 1")):
        (folder / "labelTxt").mkdir(exist_ok=True)
        (folder / "labelTxt" / f"{name}.txt").write_text(f"imagesource:GoogleEarth\ngsd:0.146343590398\n{line}\n")
    return folder


def kitti(folder: Path) -> Path:
    """The object benchmark: training/image_2 and training/label_2."""
    for name in ("000000", "000001"):
        draw(folder / "training" / "image_2" / f"{name}.png")
        (folder / "training" / "label_2").mkdir(parents=True, exist_ok=True)
        (folder / "training" / "label_2" / f"{name}.txt").write_text(
            "Person_sitting 0.00 0 -0.20 10.00 0.00 50.00 50.00 1.89 0.48 1.20 1.84 1.47 8.41 0.01\n"
            "DontCare -1 -1 -10 60.00 10.00 90.00 20.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
        )
    return folder


def datumaro(folder: Path) -> Path:
    """Datumaro's own format: annotations/train.json, images/train."""
    draw(folder / "images" / "train" / "dog.png")
    draw(folder / "images" / "train" / "cat.png")
    common = {"attributes": {"is_crowd": False}, "group": 0, "z_order": 0}
    found = {
        "dog": [common | {"id": 0, "type": "bbox", "label_id": 1, "bbox": [10.0, 0.0, 40.0, 50.0]},
                common | {"id": 1, "type": "caption", "caption": "A dog."},
                common | {"id": 2, "type": "label", "label_id": 0}],
        "cat": [common | {"id": 0, "type": "polygon", "label_id": 0, "points": [10.0, 5.0, 30.0, 5.0, 20.0, 25.0]}],
    }  # fmt: skip
    items = [
        {"id": name, "annotations": rows, "attr": {"frame": 0}, "image": {"path": f"{name}.png", "size": [50, 100]}}
        for name, rows in found.items()
    ]
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("cat", "dog")]
    write_json(folder / "annotations" / "train.json", {
        "dm_format_version": "1.0", "media_type": 2, "infos": {},
        "categories": {"label": {"labels": labels, "attributes": []}}, "items": items,
    })  # fmt: skip
    return folder


def createml(folder: Path) -> Path:
    """Roboflow's export: a file beside the images; corners are around the centre."""
    rows = []
    for name, box in (("dog", (30.0, 25.0, 40.0, 50.0)), ("cat", (20.0, 15.0, 20.0, 20.0))):
        draw(folder / "train" / f"{name}.png")
        place = dict(zip(("x", "y", "width", "height"), box, strict=True))
        rows.append({"image": f"{name}.png", "annotations": [{"label": name, "coordinates": place}]})
    write_json(folder / "train" / "_annotations.createml.json", rows)
    return folder


def supervisely(folder: Path) -> Path:
    """A project with two data sets; of both an image has the same name."""
    mask = io.BytesIO()
    Image.new("1", (20, 20), 1).save(mask, "PNG")
    data = base64.b64encode(zlib.compress(mask.getvalue())).decode()
    objects = {
        "day": {"geometryType": "rectangle", "points": {"exterior": [[10, 0], [50, 50]], "interior": []}},
        "night": {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [10, 5]}},
    }
    for number, (name, one) in enumerate(objects.items()):
        draw(folder / name / "img" / "a.png")
        one |= {"id": number, "classTitle": ("dog", "cat")[number], "tags": [], "labelerLogin": "me"}
        content = {"description": "A dog.", "tags": [], "size": {"height": 50, "width": 100}, "objects": [one]}
        write_json(folder / name / "ann" / "a.png.json", content)
    write_json(folder / "meta.json", {"classes": [{"title": "dog", "shape": "rectangle"}], "tags": []})
    return folder


def karpathy(folder: Path) -> Path:
    """dataset_coco.json beside val2014."""
    rows = []
    for number, name in enumerate(("dog", "cat", "tree")):
        draw(folder / "val2014" / f"{name}.png")
        sentences = [
            {"tokens": ["a", name], "raw": f"A {name}{end}", "imgid": number, "sentid": number} for end in ".!"
        ]
        rows.append({
            "filepath": "val2014", "sentids": [number], "filename": f"{name}.png", "imgid": number,
            "split": "test" if name == "tree" else "train", "sentences": sentences, "cocoid": 10 + number,
        })  # fmt: skip
    write_json(folder / "dataset_coco.json", {"images": rows, "dataset": "coco"})
    return folder


def lines(folder: Path) -> Path:
    """Flickr8k.token.txt."""
    draw(folder / "dog.jpg")
    draw(folder / "cat.jpg")
    (folder / "Flickr8k.token.txt").write_text(
        'dog.jpg#0\tA dog on a rug .\ndog.jpg#1\tA brown dog .\ncat.jpg#0\tA cat , "asleep" .\n'
    )
    return folder / "Flickr8k.token.txt"


def img2dataset(folder: Path) -> Path:
    """The output format "files", of which one address failed."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = []
    for number, (caption, status) in enumerate(
        (("A dog.", "success"), ("Gone.", "failed_to_download"), ("A cat.", "success"))
    ):
        key = f"{number:09}"
        rows.append({
            "url": f"https://a.org/{number}.jpg?w=2", "caption": caption, "key": key, "status": status,
            "error_message": None if status == "success" else "HTTP Error 404", "width": 100, "height": 50,
        })  # fmt: skip
        if status == "success":
            draw(folder / "00000" / f"{key}.jpg")
            (folder / "00000" / f"{key}.txt").write_text(caption)
            write_json(folder / "00000" / f"{key}.json", rows[-1])
    parquet.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    write_json(folder / "00000_stats.json", {"count": 3, "successes": 2, "failed_to_download": 1})
    return folder


def box_rows(folder: Path) -> Path:
    """TensorFlow's CSV, as Roboflow writes it: _annotations.csv beside the images."""
    draw(folder / "train" / "dog.png")
    draw(folder / "train" / "cat.png")
    (folder / "train" / "_annotations.csv").write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\ndog.png,100,50,dog,10,0,50,50\n"
        "cat.png,100,50,cat,10,5,30,25\ndog.png,100,50,rug,0,40,100,50\n"
    )
    return folder


TOOLS = {
    make.__name__: make
    for make in (
        cvat, labelme, label_studio, via, visual_genome, dota, kitti, datumaro, createml, supervisely, karpathy, lines,
        img2dataset, box_rows,
    )
}  # fmt: skip


def run_fix(error: AnnotationError) -> list[AnnotatedImages]:
    """What the commands open that an error's fix holds; their images are read."""
    commands = [shlex.split(text) for text in error.fix.split(", or ")]
    assert all(words[:2] == ["vistune", "generate"] and words[-1] == "--show" for words in commands)
    opened = [open_source(words[words.index("--source") + 1], Path(words[2])) for words in commands]
    assert all(map(list, opened))
    return opened
