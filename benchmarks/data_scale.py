"""What a million records cost: the time of planning, and the memory of planning and 100 steps.

    python benchmarks/data_scale.py --records 1000000 --formats json_list json_lines parquet webdataset

For each format the `mini` recipe's first 100 steps run twice, each in a process of its own: on a thousand records
and on all. Images are a few thousand small files; conversations have one to three exchanges. What the records cost is
shown twice: by how much planning raises the process's peak memory, and by how much the whole run's peak is above that
of the run on a thousand records (it may be below: the peak is the training's, and depends on the steps' lengths). The
pages of mapped files count. Planning is in seconds of CPU time, which other programs hardly change.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SMALL = 1_000
IMAGES = 4_000
QUESTIONS = ("what is in this picture", "how many dogs are there", "what is left of the cat")
ANSWER = "there are two people and a red box above the cat. "


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Records of LLaVA's layout, the same ones each time."""
    rng = random.Random(0)
    for number in range(count):
        turns = []
        for index in range(rng.randint(1, 3)):
            question = ("<image>\n" if index == 0 else "") + rng.choice(QUESTIONS)
            turns += [{"from": "human", "value": question}, {"from": "gpt", "value": ANSWER * rng.randint(1, 3)}]
        yield {"id": f"{number}", "image": f"{rng.randrange(IMAGES)}.png", "conversations": turns}


def write_images(folder: Path) -> None:
    """Small pictures, each of its own colour."""
    from PIL import Image

    folder.mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (32, 32), (number % 256, number // 256, 128)).save(folder / f"{number}.png")


def write_list(records: Iterator[dict[str, Any]], folder: Path) -> Path:
    """One JSON list."""
    with (folder / "x.json").open("w") as file:
        for number, record in enumerate(records):
            file.write((",\n" if number else "[") + json.dumps(record))
        file.write("]")
    return folder / "x.json"


def write_lines(records: Iterator[dict[str, Any]], folder: Path) -> Path:
    """One record a line."""
    with (folder / "x.jsonl").open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return folder / "x.jsonl"


def write_parquet(records: Iterator[dict[str, Any]], folder: Path) -> Path:
    """One file, ten thousand rows in a group."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    while chunk := list(islice(records, 10_000)):
        table = pa.Table.from_pylist(chunk)
        writer = writer or parquet.ParquetWriter(folder / "x.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    return folder / "x.parquet"


def write_tars(records: Iterator[dict[str, Any]], folder: Path) -> Path:
    """A hundred thousand records in a tar file; their images are inside."""
    images = folder.parent / "images"
    (folder / "tar").mkdir()
    for shard in range(10**6):
        chunk = list(islice(records, 100_000))
        if not chunk:
            break
        with tarfile.open(folder / "tar" / f"{shard:04}.tar", "w") as tar:
            for record in chunk:
                for name, content in (
                    (f"{record['id']}.json", json.dumps(record).encode()),
                    (f"{record['id']}.png", (images / record["image"]).read_bytes()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder / "tar"


FORMATS: dict[str, Callable[[Iterator[dict[str, Any]], Path], Path]] = {
    "json_list": write_list, "json_lines": write_lines, "parquet": write_parquet, "webdataset": write_tars
}  # fmt: skip


def measure(data: Path, images: Path, steps: int, count: int) -> dict[str, float]:
    """Plan and train in this process; seconds, and its highest memory in MB and by how much planning raised it."""
    from accelerate import Accelerator

    from vistune.data.dataset import Dataset, open_sources
    from vistune.data.encode import Encoder
    from vistune.model.assemble import assemble
    from vistune.model.vision import image_grid
    from vistune.recipe import schema
    from vistune.recipe.training import Recipe
    from vistune.train.loop import train_stage
    from vistune.train.stages import freeze

    recipe = schema.load(Recipe, Path(__file__).parent.parent / "recipes" / "mini.yaml")
    stage = recipe.stages[1].model_copy(
        update={"data": str(data), "images": str(images), "checkpoint_every": 10**6, "log_every": steps,
                "epochs": steps * recipe.stages[1].batch_size / count}
    )  # fmt: skip
    model, processor = assemble(recipe.model)
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    freeze(model, stage.trains)
    before, start = _peak(), time.process_time()
    dataset = Dataset(open_sources(stage.sources()), encoder, stage.max_length)
    planning, raised = time.process_time() - start, _peak() - before
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        train_stage(model, processor, dataset, recipe, stage, accelerator=Accelerator(cpu=True), folder=Path(out))
    seconds = {"planning": planning, "training": time.perf_counter() - start}
    return {**seconds, "raised": raised, "peak": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(data: Path, images: Path, steps: int, count: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(data), str(images), "--steps", str(steps)]
    done = subprocess.run([*command, "--records", str(count)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Write the data to a temporary folder, measure, print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("DATA", "IMAGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.steps, arguments.records)))
        return
    print("format      records    file MB  planning s  planning MB  steps s  peak MB  beyond the small run MB")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        write_images(folder / "images")
        for name in arguments.formats:
            found = []
            for count in (SMALL, arguments.records):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    data = FORMATS[name](rows(count), Path(place))
                    files = data.rglob("*") if data.is_dir() else [data]
                    size = sum(file.stat().st_size for file in files) / 1e6
                    found.append(in_own_process(data, folder / "images", arguments.steps, count))
            small, large = found
            print(
                f"{name:11} {arguments.records:>8} {size:>9.0f} {large['planning']:>11.1f} {large['raised']:>12.0f}"
                f" {large['training']:>8.1f} {large['peak']:>8.0f} {large['peak'] - small['peak']:>24.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
