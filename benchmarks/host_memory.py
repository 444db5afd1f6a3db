"""Peak memory: of opening and saving a checkpoint, in copies of the model; of training, beside what `--plan` says.

    python benchmarks/host_memory.py [--size 200]     megabytes of the model in float32
    python benchmarks/host_memory.py --plan

The checkpoint is in float16, as the published ones are: in float32 its pages would be the file's. Each case runs in a
process of its own, which counts its own (anonymous) memory, not pages of files.

With --plan, small models train two steps. Measured is the peak of the process's memory (on CUDA, of the tensors) less
what it held before it built the model. On a CPU memory that is freed goes back to the system at once
(MALLOC_MMAP_THRESHOLD_), as otherwise the C library's heap keeps it, and how much of it is chance.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

CASES = {
    "open in float32": ("float32", None),
    "open in bfloat16, to answer": ("bfloat16", None),
    "open in float32, save in float32": ("float32", "float32"),
    "open in float32, save in bfloat16": ("float32", "bfloat16"),
}
PLANS: dict[str, dict[str, Any]] = {
    "projector (stage 1)": {"trains": ["projector"]},
    "LoRA, rank 64": {"trains": ["projector", "lora"], "lora": {"rank": 64, "alpha": 64, "dropout": 0}},
    "LoRA with dropout": {"trains": ["projector", "lora"], "lora": {"rank": 64, "alpha": 64, "dropout": 0.05}},
    "full": {"trains": ["projector", "language"]},
    "full, tied embeddings": {"trains": ["projector", "language"]},
    "full and tower": {"trains": ["projector", "language", "vision"]},
    "full, activation checkpointing": {"trains": ["projector", "language"], "activation_checkpointing": 1},
    "full, bf16": {"trains": ["projector", "language"]},
    "LoRA, bf16": {"trains": ["projector", "lora"], "lora": {"rank": 64, "alpha": 64, "dropout": 0}},
    "projector, from a GGUF file": {"trains": ["projector"]},
    "LoRA, from a GGUF file": {"trains": ["projector", "lora"], "lora": {"rank": 64, "alpha": 64, "dropout": 0}},
}


def anonymous() -> int:
    """The bytes of memory that this process holds and no file backs (Linux)."""
    text = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(text.partition("RssAnon:")[2].split()[0])


def resident() -> int:
    """The bytes of memory that this process holds, with those of files (Linux)."""
    text = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(text.partition("VmRSS:")[2].split()[0])


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


def plan_recipe(folder: Path, name: str) -> Any:
    """The recipe of a case of PLANS."""
    from vistune.recipe.training import Recipe

    language = "tied" if "tied" in name else "gguf/model.gguf" if "GGUF" in name else "plain"
    stage = {"name": "s", "data": str(folder / "data.json"), "images": str(folder), "epochs": 1, "batch_size": 4,
             "micro_batch_size": 4, "learning_rate": 1e-4, "log_every": 1, **PLANS[name]}  # fmt: skip
    parts = {"vision_tower": "vision", "language_model": language}
    model = {**{part: str(folder / place) for part, place in parts.items()}, "projector": "mlp2x_gelu"}
    precision = "bf16" if "bf16" in name else "fp32"
    return Recipe.model_validate({"name": "m", "log_to": [], "precision": precision, "model": model, "stages": [stage]})


def planned(folder: Path, name: str) -> float:
    """The bytes that the plan expects of a case, without those that the process held before."""
    from vistune.train.log import peak_memory
    from vistune.train.plan import plan

    held = 0 if torch.cuda.is_available() else peak_memory()
    [stage] = plan(plan_recipe(folder, name))
    return stage.memory - held


def trained(folder: Path, name: str) -> float:
    """The bytes that the training of a case takes at its peak, beyond those that the process held before."""
    from vistune.train.log import peak_memory
    from vistune.train.run import train

    held = resident()  # not the peak so far, which a process inherits from the one that started it
    train(plan_recipe(folder, name), folder / "runs" / name)
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory() - held


def prepare_plans(folder: Path) -> None:
    """Backbones of 512 dimensions with the miniature's tokenizer, one also as a GGUF file, and eight conversations."""
    from training_shapes import Shape, make_backbones, make_data
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from vistune.export.text_gguf import write_text_model
    from vistune.model.assemble import assemble
    from vistune.model.backbones import resolve
    from vistune.recipe.training import ModelRecipe

    tower = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    text: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6,
                            "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 8192}  # fmt: skip
    shape = Shape(224, tower, text)
    make_backbones(shape, folder)
    make_data(shape, "tune", 8, folder)
    tokenizer = AutoTokenizer.from_pretrained(resolve("mini", "language"))
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, tied in (("plain", False), ("tied", True)):
        LlamaForCausalLM(LlamaConfig(**text, **ends, tie_word_embeddings=tied)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    recipe = ModelRecipe(vision_tower="mini", language_model=str(folder / "plain"), projector="linear")
    model, processor = assemble(recipe)
    (folder / "gguf").mkdir()
    template = str(processor.chat_template)
    write_text_model(model, processor.tokenizer, template, folder / "gguf" / "model.gguf", "f16")


def compare_plans() -> None:
    """Print what is planned and what is measured, in MB."""
    with tempfile.TemporaryDirectory() as made:
        prepare_plans(Path(made))
        print("| | plan, MB | measured, MB | plan / measured |\n|---|---|---|---|", flush=True)
        variables = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        for name in PLANS:
            figures = []
            for how in ("planned", "trained"):
                command = [sys.executable, __file__, f"--{how}", made, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
                figures.append(float(done.stdout.splitlines()[-1]) / 2**20)
            print(f"| {name} | {figures[0]:.0f} | {figures[1]:.0f} | {figures[0] / figures[1]:.2f} |", flush=True)


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--case", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    parser.add_argument("--plan", action="store_true", help="compare the plan of trainings with their peak")
    for how in ("planned", "trained"):
        parser.add_argument(f"--{how}", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        compare_plans()
        return
    for measure_plan, case in ((planned, arguments.planned), (trained, arguments.trained)):
        if case:
            print(measure_plan(Path(case[0]), case[1]))
            return
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
