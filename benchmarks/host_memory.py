"""Peak host memory of opening and saving a checkpoint, in copies of the model, and what follows for 7B and 13B.

    python benchmarks/host_memory.py [--size 200]     megabytes of the model in float32

The checkpoint is in float16, as the published ones are: in float32 its pages would be the file's. Each case runs in a
process of its own, which counts its own (anonymous) memory, not pages of files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

CASES = {
    "open in float32": ("float32", None),
    "open in bfloat16, to answer": ("bfloat16", None),
    "open in float32, save in float32": ("float32", "float32"),
    "open in float32, save in bfloat16": ("float32", "bfloat16"),
}


def anonymous() -> int:
    """The bytes of memory that this process holds and no file backs (Linux)."""
    text = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(text.partition("RssAnon:")[2].split()[0])


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """The largest growth of the memory meanwhile."""
    start, largest, ended = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            largest[0] = max(largest[0], anonymous() - start)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    yield lambda: largest[0]
    ended.set()
    thread.join()


def measure(folder: Path, dtype: str, save: str | None) -> float:
    """The peak of a case, in copies of the model in the dtype that it is held in."""
    from vistune.model.adapter_checkpoint import open_on_device
    from vistune.model.checkpoint import save_checkpoint

    open_on_device(folder / "small", torch.device("cpu"), torch.float32)  # what is imported and allocated once
    with peak() as largest:
        model, processor = open_on_device(folder / "model", torch.device("cpu"), getattr(torch, dtype))
        if save:
            save_checkpoint(model, processor, folder / f"saved-{save}", getattr(torch, save))
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return largest() / size


def prepare(folder: Path, megabytes: int) -> None:
    """A checkpoint of about this size in float32, and a small one."""
    from training_shapes import SHAPES, Shape, make_backbones

    from vistune.model.assemble import assemble
    from vistune.model.checkpoint import save_checkpoint
    from vistune.recipe.training import ModelRecipe

    tiny = SHAPES["tiny"]
    layers = max(1, round(megabytes * 2**20 / 4 / (4 * 1024**2 + 3 * 1024 * 2816)))
    large = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": layers, "num_attention_heads": 16}
    for name, text in (("small", tiny.text), ("model", {**large, "num_key_value_heads": 16, "vocab_size": 1024})):
        backbones = folder / f"{name}-backbones"
        make_backbones(Shape(tiny.side, tiny.tower, text), backbones)
        recipe = ModelRecipe(
            vision_tower=str(backbones / "vision"), language_model=str(backbones / "language"), projector="mlp2x_gelu"
        )
        save_checkpoint(*assemble(recipe), folder / name, torch.float16)


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--case", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        folder, name = arguments.case
        print(json.dumps(measure(Path(folder), *CASES[name])))
        return
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made), arguments.size)
        print("| | copies of the model | 7B, GB | 13B, GB |\n|---|---|---|---|")
        for name, (dtype, _) in CASES.items():
            command = [sys.executable, __file__, "--case", made, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            copies, width = float(done.stdout.splitlines()[-1]), 4 if dtype == "float32" else 2
            large = (f"{copies * size * width:.0f}" for size in (7.06, 13.35))
            print(f"| {name} | {copies:.2f} | {' | '.join(large)} |", flush=True)


if __name__ == "__main__":
    main()
