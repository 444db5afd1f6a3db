"""What reading COCO's training split costs: seconds and memory of the first pass and of the next one.

    python benchmarks/annotations_scale.py --annotations 860000

Writes a file like instances_train2017.json to a temporary folder, with polygons and 7 boxes an image, and reads it in a
process of its own. The images are not there, so that no file is opened.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOXES_PER_IMAGE = 7
POINTS = 40


def annotations(count: int) -> Iterator[dict[str, Any]]:
    """Annotations of random boxes, each with one polygon."""
    rng = random.Random(0)
    for number in range(count):
        x, y, width, height = (round(rng.uniform(1, 300), 2) for _ in range(4))
        polygon = [round(rng.uniform(1, 600), 2) for _ in range(2 * POINTS)]
        yield {
            "segmentation": [polygon], "area": round(width * height / 2, 4), "iscrowd": 0,
            "image_id": number // BOXES_PER_IMAGE, "bbox": [x, y, width, height],
            "category_id": rng.randint(1, 80), "id": number,
        }  # fmt: skip


def write(path: Path, count: int) -> None:
    """A file with the keys of COCO's, in its order."""
    names = (f"{number:012}.jpg" for number in range(-(-count // BOXES_PER_IMAGE)))
    images = [
        {"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}", "height": 640,
         "width": 640, "date_captured": "2013-11-14 11:18:45", "id": number}
        for number, name in enumerate(names)
    ]  # fmt: skip
    categories = [{"supercategory": "thing", "id": number, "name": f"thing {number}"} for number in range(1, 81)]
    with path.open("w") as file:
        file.write(f'{{"info": {{"year": 2017}}, "images": {json.dumps(images)}, "annotations": [')
        for number, one in enumerate(annotations(count)):
            file.write((", " if number else "") + json.dumps(one))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def measure(path: Path) -> None:
    """Read the file twice in this process; a line with seconds of CPU time and the highest memory in MB."""
    from vistune.sources import open_source

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    source = open_source(None, path)
    seconds, boxes = [], 0
    for _ in range(2):
        start = time.process_time()
        boxes = sum(len(record.boxes) for record in source)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = path.stat().st_size / 1e6
    print(f"{boxes:>9} {size:>7.0f} {seconds[0]:>12.1f} {seconds[1]:>13.1f} {peak - before:>10.0f} {peak:>8.0f}")


def main() -> None:
    """Write the file, measure in another process, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    print("    boxes file MB  first pass s  second pass s  raised MB  peak MB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances_train2017.json"
        write(path, arguments.annotations)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
