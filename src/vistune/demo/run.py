"""`vistune demo`: the whole flow on Emoji-COCO; each step is the one that a user runs on other data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vistune.demo.dataset import write_dataset
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.models import open_model
from vistune.evaluate.report import write_report
from vistune.evaluate.results import Scores
from vistune.evaluate.runner import run_benchmarks
from vistune.evaluate.tables import print_scores
from vistune.generate import GenerateRecipe, generate
from vistune.output_folder import output_folder
from vistune.recipe.yaml_file import shipped
from vistune.records import ImageRecord
from vistune.sources import open_source
from vistune.storage import atomic_text
from vistune.terminal import Terminal
from vistune.train.launch import PROCESSES, train_by_command
from vistune.train.log import peak_memory

KINDS = {"conversation": "all", "detail": "0.8", "reasoning": "0.1"}
TRAIN, TEST = 3000, 150
"""Number of images to train on, and to hold out."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute with one thread meanwhile; also a decorator, as `@one_thread()`.

    With another number of threads, sums have another order and results other last bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def run_demo(out: Path, seed: int, *, images: int = TRAIN, held_out: int = TEST, overwrite: bool = False) -> None:
    """Draw Emoji-COCO, write instruction data, train both stages, score them and write the report, all in `out`.

    After an interruption the same call resumes the training. Raises VistuneError if another run is using the folder,
    and, without `overwrite`, if it holds another demo or other files of these names.
    """
    run = {"seed": seed, "images": images, "held_out": held_out}
    with output_folder(out, ["report.html", "report_images", "eval", "scores.json"], run=run, overwrite=overwrite):
        _run(out, seed, images, held_out)


def _run(out: Path, seed: int, images: int, held_out: int) -> None:
    console = Terminal(highlight=False)
    start = time.perf_counter()
    data, run = out / "data", out / "train"
    _heading(console, 1, f"Annotated images: Emoji-COCO, {images} for training, {held_out} held out")
    write_dataset(data, seed=seed, train=images, val=0, test=held_out)
    _heading(console, 2, "Generate: a teacher that sees only captions and boxes writes the instruction data")
    report = generate(GenerateRecipe(data=str(data), source="coco", kinds=KINDS, seed=seed), out / "instruct")
    console.print(report.table())
    _heading(console, 3, "Train: first the projector on captions, then projector and language model on instructions")
    files = {"align": out / "instruct/align.json", "tune": out / "instruct/instruct.json"}
    overrides = [f"seed={seed}"]
    for stage, file in files.items():
        overrides += [f"stages.{stage}.data={file}", f"stages.{stage}.images={data}"]
    train_by_command(shipped() / "mini.yaml", run, overrides)
    tuned = run / "tune"
    _heading(console, 4, "Evaluate on images, and combinations of objects, that are not in the training data")
    held_out_records = list(open_source("coco", data, "test"))
    scores = _score(run, held_out_records, out / "eval", seed)
    print_scores(scores, console)
    seconds = time.perf_counter() - start
    made = {"seed": str(seed), "images": f"{images} for training, {held_out} held out", "seconds": f"{seconds:.0f}"}
    page = write_report(
        out,
        [out / "eval" / one.label for one in scores],
        records=held_out_records,
        logs={stage: run / stage / "log.jsonl" for stage in files},
        details=made,
        title="vistune demo",
        about="A visual assistant for Emoji-COCO, trained in minutes on a CPU.",
    )
    _write_scores(out / "scores.json", scores, seed, seconds)
    image = held_out_records[0].image
    console.print(f"\nreport: {page}\nchat:   vistune chat {tuned} --image {image}", soft_wrap=True)


def _heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n{number}. {text}", style="bold")


def _score(run: Path, records: list[ImageRecord], out: Path, seed: int) -> list[Scores]:
    """Scores of the tuned model, of stage 1 alone, and of the tuned model with blank images."""
    tuned, aligned = (open_model(str(run / stage)) for stage in ("tune", "align"))
    made = {name: benchmarks.get(name)(Setting(annotated=records, seed=seed)) for name in ("scene_qa", "chair")}
    return [
        run_benchmarks(tuned, made, out / "tuned", label="tuned"),
        run_benchmarks(aligned, made, out / "aligned", label="aligned"),
        run_benchmarks(tuned, made, out / "blind", label="blind", blank_images=True),
    ]


def _write_scores(path: Path, scores: list[Scores], seed: int, seconds: float) -> None:
    content: dict[str, Any] = {one.label: one.as_json() for one in scores}
    content |= {"seconds": round(seconds, 1), "peak_rss_mb": round(_peak_rss_mb()), "seed": seed}
    with atomic_text(path) as file:
        file.write(json.dumps(content, indent=2) + "\n")


def _peak_rss_mb() -> float:
    """Upper bound of the memory, in megabytes, that this process and those that train held together."""
    return (peak_memory() + PROCESSES * peak_memory(children=True)) / 1e6
