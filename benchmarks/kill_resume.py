"""Training is killed with SIGKILL again and again; what it ends with is compared with an uninterrupted run, bit by bit.

    python benchmarks/kill_resume.py --kills 20

Both stages of a small run on Emoji-COCO with the `mini` backbones, with all of the language model trained in the
second stage and with adapters (LoRA). Of the kills, half are for either; five are while a state or a checkpoint is
being written, the others at random moments, from the start of the process to its end. After each the same command
continues, and when a run has finished, the next begins anew. A table shows every kill and the comparison of each
finished run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The process trains; where `at` is not None, it kills itself when it opens the `at`-th file that it writes to a state
# or checkpoint. What it prints goes to a file.
CODE = """
import os, signal, sys
os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1), os.dup2(1, 2)
from pathlib import Path
from vistune.recipe.training import Recipe
from vistune.train.run import train

opened = 0

def hook(event, arguments):
    global opened
    if event == "open" and ".partial/" in str(arguments[0]):
        opened += 1
        if opened == at:
            os.kill(os.getpid(), signal.SIGKILL)

if at is not None:
    sys.addaudithook(hook)
train(Recipe.model_validate(recipe), Path(out))
"""


def main() -> None:
    """Make the data, kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--writing", type=int, default=5, help="of these, while something is written (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--steps", type=int, default=24, help="about how many a stage has (default: 24)")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    kinds = [number < args.writing for number in range(args.kills)]
    rng.shuffle(kinds)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        for name, some in (("full", kinds[::2]), ("LoRA", kinds[1::2])):
            same &= trial(name, make_recipe(data, args.steps, lora=name == "LoRA"), some, rng, Path(folder) / name)
    sys.exit(not same)


def make_data(folder: Path) -> Path:
    """A few pictures with instruction data for both stages."""
    from vistune.demo.dataset import write_dataset
    from vistune.generate import GenerateRecipe, generate

    write_dataset(folder / "images", seed=0, train=40, val=0, test=0)
    generate(GenerateRecipe(data=str(folder / "images"), source="coco"), folder / "data")
    return folder


def make_recipe(folder: Path, steps: int, *, lora: bool) -> dict[str, Any]:
    """Both stages of about this number of steps, a state every three."""
    stages = []
    for name, data in (("align", "align"), ("tune", "instruct")):
        records = json.loads((folder / "data" / f"{data}.json").read_text("utf-8"))
        stages.append({
            "name": name, "data": str(folder / "data" / f"{data}.json"), "images": str(folder / "images"),
            "trains": ["projector"], "epochs": steps * 4 / len(records), "batch_size": 4, "micro_batch_size": 2,
            "learning_rate": 1e-3, "checkpoint_every": 3, "log_every": 1,
        })  # fmt: skip
    stages[0]["template"] = "plain"
    stages[1]["trains"] = ["projector", "lora" if lora else "language"]
    if lora:
        stages[1]["lora"] = {"rank": 8, "alpha": 16, "dropout": 0.1}
    model = {"vision_tower": "mini", "language_model": "mini", "projector": "mlp2x_gelu"}
    return {"name": "kill-resume", "model": model, "stages": stages}


def trial(name: str, recipe: dict[str, Any], writing: list[bool], rng: random.Random, folder: Path) -> bool:
    """Kill runs of the recipe so often; whether all that finished ended with the weights of one that was not killed."""
    folder.mkdir()
    start = time.perf_counter()
    run(recipe, folder / "whole")
    seconds = time.perf_counter() - start
    wanted = digests(folder / "whole")
    print(f"{name}: an uninterrupted run takes {seconds:.0f} s", flush=True)
    print(f"{'kill':>5}  {'while':<8} {'after':>7}  {'stage':<6} newest state", flush=True)
    runs, kills, same = 0, 0, True
    while kills < len(writing):
        out = folder / f"run-{runs}"
        finished = False
        while kills < len(writing) and not finished:
            moment = {"at": rng.randrange(1, 25)} if writing[kills] else {"after": rng.uniform(0, seconds)}
            start = time.perf_counter()
            finished = run(recipe, out, **moment) == 0
            if not finished:
                kills += 1
                what = "writing" if writing[kills - 1] else "any"
                where = "  ".join(standing(out))
                print(f"{kills:>5}  {what:<8} {time.perf_counter() - start:>5.1f} s  {where}", flush=True)
        if not finished:
            run(recipe, out)
        equal = digests(out) == wanted
        same &= equal
        runs += 1
        print(f"       finished: {'the same weights, bit for bit' if equal else 'OTHER WEIGHTS'}", flush=True)
    return same


def run(recipe: dict[str, Any], out: Path, *, at: int | None = None, after: float | None = None) -> int | None:
    """Train in a process of its own, killed `after` seconds or when it opens the `at`-th file; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vistune.train.run"])
    names = {"recipe": recipe, "out": str(out), "at": at, "output": str(out.with_suffix(".txt"))}
    process = context.Process(target=exec, args=(CODE, names))
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(out.with_suffix(".txt").read_text())
    return process.exitcode


def digests(out: Path) -> dict[str, str]:
    """The hash of every file with weights of both stages' checkpoints."""
    files = [path for stage in ("align", "tune") for path in sorted((out / stage).rglob("*.safetensors"))]
    return {
        str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files if "state" not in path.parts
    }


def standing(out: Path) -> Iterator[str]:
    """The stage that a killed run is in, and its newest state."""
    stage = "tune" if (out / "align" / "config.json").exists() else "align"
    yield f"{stage:<6}"
    yield max((path.name for path in (out / stage / "state").glob("step-*")), default="none")


if __name__ == "__main__":
    main()
