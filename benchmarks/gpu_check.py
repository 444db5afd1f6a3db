"""Whether training, answering and serving work on this machine's GPU: one command, one table, what failed below it.

    python benchmarks/gpu_check.py              everything, about ten minutes on one GPU
    python benchmarks/gpu_check.py --no-speed   without the throughput of a 1B model beside transformers' Trainer

Weights are random, nothing is fetched. Without a GPU the same checks run on small shapes where a CPU can, the others
are skipped. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from training_shapes import SHAPES, make_backbones, make_data
from transformers.utils import logging

from vistune.data.collate import Batch, Segment, collate
from vistune.data.encode import Encoder
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore, read_image
from vistune.model import shared_prefix
from vistune.model.assemble import assemble
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import load_checkpoint, save_checkpoint
from vistune.model.linear_cross_entropy import linear_cross_entropy, rows_at_once
from vistune.model.shared_prefix import Layout, shared_prefix_attention
from vistune.model.vision import image_grid
from vistune.recipe.schema import save
from vistune.recipe.training import ModelRecipe, Recipe
from vistune.records import Turn
from vistune.serve.engine import Engine
from vistune.serve.images import ImageReader
from vistune.serve.jobs import Job, Limits
from vistune.serve.sampling import Sampling
from vistune.train.distributed import end_processes
from vistune.train.run import train
from vistune.train.stages import open_stage_data, prepare_stage
from vistune.train.target_loss import TargetLoss

os.environ.setdefault("HF_HUB_OFFLINE", "1")
WINDOWS = (None, 150)
SEGMENTS = (Segment(300, (40, 1, 90)), Segment(0, (260,)), Segment(130, (70, 130)))


class SkippedError(Exception):
    """A check that this machine cannot run, and why."""


@dataclass
class Machine:
    """Where the checks run, with a small model and data in `folder`."""

    device: torch.device
    folder: Path
    checks: dict[str, str] = field(default_factory=dict)

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    def needs_gpu(self) -> None:
        if not self.gpu:
            raise SkippedError("no CUDA")

    def recipe(self, *stages: dict[str, Any], **changes: Any) -> Recipe:
        """A run of `stages` over the data, from the small model."""
        common = {
            "data": str(self.folder / "data.json"), "images": str(self.folder), "epochs": 1, "batch_size": 4,
            "micro_batch_size": 2, "learning_rate": 1e-3, "log_every": 1, "warmup_ratio": 0,
        }  # fmt: skip
        own = [{"name": f"stage{number}", **common, **stage} for number, stage in enumerate(stages, 1)]
        start = {"name": "check", "start": str(self.folder / "model"), "log_to": []}
        return Recipe.model_validate({**start, **changes, "stages": own})

    def losses(self, recipe: Recipe, name: str) -> list[float]:
        """The losses of a run's last stage."""
        train(recipe, self.folder / name)
        return read_losses(self.folder / name / recipe.stages[-1].name)


CHECKS: list[tuple[str, Callable[[Machine], str]]] = []


def check(name: str) -> Callable[[Callable[[Machine], str]], Callable[[Machine], str]]:
    """Add a check, which returns what it found, or raises."""

    def add(run: Callable[[Machine], str]) -> Callable[[Machine], str]:
        CHECKS.append((name, run))
        return run

    return add


def read_losses(folder: Path) -> list[float]:
    """The losses in a stage's log."""
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def close(found: Any, wanted: Any, limit: float, what: str = "difference") -> str:
    """Asserts that the relative difference is at most `limit`; returns it."""
    found, wanted = (torch.as_tensor(one).detach().float().cpu() for one in (found, wanted))
    difference = float((found - wanted).norm() / wanted.norm())
    assert difference <= limit, f"{what} {difference:.2g}, above {limit:g}"
    return f"{what} {difference:.1g}"


@check("device")
def device(machine: Machine) -> str:
    """What there is."""
    if not machine.gpu:
        return f"torch {torch.__version__}, CPU with {torch.get_num_threads()} threads"
    made = torch.cuda.get_device_properties(machine.device)
    bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16: use fp16"
    count = torch.cuda.device_count()
    return f"torch {torch.__version__}, {count} x {made.name}, {made.total_memory / 2**30:.0f} GiB, {bf16}"


def batch_of(machine: Machine, model: Any, processor: Any) -> Batch:
    """A row of eight conversations."""
    [[source]] = [open_stage_data(machine.recipe({"trains": ["projector"]}).stages[0], print)[0]]
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    samples = [encoder.encode(source[number], 2048) for number in range(8)]
    images = ImageStore(lambda name: read_image(Path(name)), processor.image_processor)
    return collate(make_groups(samples), images.get)


def gradients(machine: Machine, where: torch.device, half: torch.dtype | None, **options: Any) -> tuple[Any, Any]:
    """The loss of a row and all gradients in one."""
    recipe = machine.recipe({"trains": ["projector", "language"]})
    model, processor = load_checkpoint(machine.folder / "model")
    prepare_stage(recipe, recipe.stages[0], model, processor, [], output=print)
    batch = batch_of(machine, model, processor)
    module = TargetLoss(model, **options).to(where)
    with torch.autocast(where.type, half, enabled=half is not None):
        loss = module(batch.to(where), 1 / len(batch.targets))
    loss.backward()
    return loss, torch.cat([weight.grad.flatten().cpu() for weight in model.parameters() if weight.grad is not None])


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """TF32 in fp32 products, or not."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def against_fp32(machine: Machine, half: torch.dtype | None, limits: tuple[float, float], **options: Any) -> str:
    """The loss and the gradients of a row beside those of the CPU in fp32."""
    wanted = gradients(machine, torch.device("cpu"), None, attention="sdpa")
    found = gradients(machine, machine.device, half, **options)
    return ", ".join(close(*pair, *one) for *pair, one in zip(found, wanted, zip(limits, ("loss", "gradients"))))  # noqa: B905


@check("fp32 forward and backward")
def fp32(machine: Machine) -> str:
    """Equal to the CPU's."""
    with tf32(False):
        return against_fp32(machine, None, (1e-5, 1e-4))


@check("TF32 forward and backward")
def in_tf32(machine: Machine) -> str:
    """Near fp32."""
    machine.needs_gpu()
    with tf32(True):
        return against_fp32(machine, None, (1e-3, 1e-2))


@check("bf16 forward and backward")
def bf16(machine: Machine) -> str:
    """Near fp32."""
    return against_fp32(machine, torch.bfloat16, (2e-2, 1e-1))


@check("fp16 forward and backward")
def fp16(machine: Machine) -> str:
    """Near fp32."""
    return against_fp32(machine, torch.float16, (5e-3, 5e-2))


@check("layers compiled")
def compiled(machine: Machine) -> str:
    """Equal to layers that are not."""
    machine.needs_gpu()
    return against_fp32(machine, torch.bfloat16, (2e-2, 1e-1), compiled=True)


def states(machine: Machine, heads: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Random queries, keys or values (1, heads, N, 64)."""
    made = torch.randn(1, heads, positions().numel(), 64, generator=torch.Generator().manual_seed(seed))
    return made.to(machine.device, dtype).requires_grad_(machine.gpu)  # flex attention has no backward on a CPU


def positions() -> torch.Tensor:
    """Each token's place in its conversation."""
    each = [(0, one.shared) for one in SEGMENTS], [[(one.shared, size) for size in one.branches] for one in SEGMENTS]
    pieces = [piece for shared, branches in zip(*each, strict=True) for piece in (shared, *branches)]
    return torch.cat([torch.arange(start, start + size) for start, size in pieces])


def compare_attention(machine: Machine, name: Any, dtype: torch.dtype, limit: float) -> str:
    """Another attention's states and gradients beside those of the pieces."""
    found = []
    for window in WINDOWS:
        for softcap in (None, 20.0):
            both = []
            for attention in (name, "sdpa"):
                layout = Layout(SEGMENTS, positions().to(machine.device), attention, WINDOWS)
                given = [states(machine, heads, seed, dtype) for seed, heads in enumerate((4, 2, 2))]
                result, _ = shared_prefix_attention(
                    torch.nn.Identity(), *given, None, layout=layout, sliding_window=window, softcap=softcap
                )
                if machine.gpu:
                    result.backward(torch.ones_like(result) / 7)
                    result = torch.cat([result.flatten(), *(one.grad.flatten() for one in given)])  # type: ignore[union-attr]
                both.append(result)
            found.append(close(*both, limit))
    return f"{len(found)} cases, {max(found)}"


@check("flex attention")
def flex(machine: Machine) -> str:
    """Equal to the pieces, in fp32 and bf16."""
    with tf32(False):
        exact = compare_attention(machine, "flex_attention", torch.float32, 1e-3)
    return f"fp32: {exact}; bf16: {compare_attention(machine, 'flex_attention', torch.bfloat16, 2e-2)}"


@check("flash attention")
def flash(machine: Machine) -> str:
    """Equal to the pieces."""
    machine.needs_gpu()
    if find_spec("flash_attn") is None:
        raise SkippedError("flash-attn is not installed")
    return compare_attention(machine, "flash_attention_2", torch.bfloat16, 2e-2)


@check("block masks")
def masks(machine: Machine) -> str:
    """Every pair that may be seen lies in a block, and the mask of the blocks allows exactly these pairs."""
    places = positions()
    pieces = [(g, b) for g, one in enumerate(SEGMENTS) for b in range(1 + len(one.branches))]
    sizes = torch.tensor([size for one in SEGMENTS for size in (one.shared, *one.branches)])
    group, branch = torch.tensor(pieces).repeat_interleave(sizes, dim=0).T
    for window in WINDOWS:
        seen = (group[:, None] == group) & ((branch == 0) | (branch[:, None] == branch))
        distance = places[:, None] - places
        seen &= (distance >= 0) & (distance < (window or 10**6))
        mask = Layout(SEGMENTS, places.to(machine.device), "flex_attention", WINDOWS).masks[window]
        row = torch.arange(len(places), device=machine.device)
        assert torch.equal(mask.mask_mod(0, 0, row[:, None], row).cpu(), seen)
        blocks = F.pad(seen.float(), [0, -len(seen) % 128] * 2).unfold(0, 128, 128).unfold(1, 128, 128).amax((2, 3))
        assert torch.equal(mask.to_dense()[0, 0].cpu().bool(), blocks.bool()), f"blocks of window {window}"
    how = "compiled" if machine.gpu else "not compiled"
    return f"{how}, {mask.sparsity():.0f} % of the blocks left out"


@check("rows of all lengths")
def lengths(machine: Machine) -> str:
    """No attention is compiled again for another length."""
    machine.needs_gpu()
    torch._dynamo.reset()
    for cached in (shared_prefix._compiled, shared_prefix._compiled_masks):
        cached.cache_clear()
    torch._dynamo.utils.counters.clear()
    counts = []
    for length in range(300, 2300, 100):
        places = torch.arange(length + 150, device=machine.device)
        layout = Layout((Segment(length, (100, 50)),), places, "flex_attention")
        query, key = (torch.randn(1, heads, length + 150, 64, device=machine.device) for heads in (4, 2))
        shared_prefix_attention(torch.nn.Identity(), query, key, key, None, layout=layout)
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counts[-1] <= counts[0] + 2, f"graphs after each length: {counts}"
    return f"{counts[-1]} graphs for {len(counts)} lengths"


@check("head in chunks")
def head(machine: Machine) -> str:
    """Loss and gradients of a large vocabulary beside those from all logits."""
    vocabulary = 128_256 if machine.gpu else 20_000
    layer = torch.nn.Linear(64, vocabulary, bias=False, device=machine.device)
    model = argparse.Namespace(lm_head=layer, config=argparse.Namespace(text_config=None))
    given = torch.randn(500, 64, device=machine.device, requires_grad=True)
    targets = torch.randint(vocabulary, (500,), device=machine.device)
    with tf32(False):
        whole = F.cross_entropy(layer(given), targets, reduction="sum")
        found = [
            torch.autograd.grad(one, [given, layer.weight])
            for one in (linear_cross_entropy(model, given, targets), whole)
        ]
    both = (torch.cat([one.flatten() for one in gradients]) for gradients in found)
    return f"{close(*both, 1e-4)}, {rows_at_once(model.lm_head.weight)} rows at a time"


ALIGN = {"trains": ["projector"]}
TUNE = {"trains": ["projector", "language"]}
LORA = {"trains": ["projector", "lora"], "lora": {"rank": 8, "alpha": 16, "dropout": 0}}


def falls(losses: list[float]) -> str:
    """Asserts that the last loss is lower than the first."""
    assert losses[-1] < losses[0], f"the loss does not fall: {losses}"
    return f"loss {losses[0]:.3f} to {losses[-1]:.3f}"


def best(machine: Machine) -> dict[str, Any]:
    """The precision that this machine is fast in."""
    return {"precision": "bf16"} if not machine.gpu or torch.cuda.is_bf16_supported() else {"precision": "fp16"}


@check("stage 1, stage 2")
def stages(machine: Machine) -> str:
    """A run of both."""
    return falls(machine.losses(machine.recipe(ALIGN, {**TUNE, "epochs": 3}, **best(machine)), "stages"))


@check("fp16 with a scaled loss")
def scaled(machine: Machine) -> str:
    """The losses of fp16 beside those of fp32."""
    runs = [machine.losses(machine.recipe(TUNE, precision=one), one) for one in ("fp16", "fp32")]
    return close(*runs, 2e-2, "losses")


@check("LoRA")
def lora(machine: Machine) -> str:
    """A run, and its checkpoint."""
    return falls(machine.losses(machine.recipe({**LORA, "epochs": 3, "learning_rate": 1e-2}, **best(machine)), "lora"))


@check("QLoRA")
def qlora(machine: Machine) -> str:
    """A run on four bits."""
    needs_bitsandbytes()
    stage = {**LORA, "lora": {**LORA["lora"], "quantize": "nf4"}, "epochs": 3, "learning_rate": 1e-2}  # type: ignore[dict-item]
    return falls(machine.losses(machine.recipe(stage, **best(machine)), "qlora"))


@check("8-bit AdamW")
def adamw_8bit(machine: Machine) -> str:
    """A run beside AdamW."""
    machine.needs_gpu()
    needs_bitsandbytes()
    runs = [machine.losses(machine.recipe({**TUNE, "optim": one}), one) for one in ("adamw_8bit", "adamw")]
    return close(*runs, 2e-2, "losses")


def needs_bitsandbytes() -> None:
    """Skips the check without bitsandbytes."""
    if find_spec("bitsandbytes") is None:
        raise SkippedError("bitsandbytes is not installed")


@check("FSDP2")
def fsdp2(machine: Machine) -> str:
    """A run in one process a GPU (two on a CPU), and the losses of one process."""
    count = torch.cuda.device_count() if machine.gpu else 2
    recipe = machine.recipe(TUNE, **best(machine))
    save(recipe, machine.folder / "fsdp2.yaml")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "vistune.cli"]
    training = ["train", str(machine.folder / "fsdp2.yaml"), "--out", str(machine.folder / "fsdp2")]
    variables = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, *launcher, *training], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = machine.losses(recipe, "alone")
    return f"{count} processes, {close(read_losses(machine.folder / 'fsdp2' / 'stage1'), alone, 1e-2, 'losses')}"


QUESTION = "w1 w2 w3"


@check("generation in bf16")
def generation(machine: Machine) -> str:
    """The likelihoods of answers beside those in fp32: random weights make words a matter of rounding."""
    image, choices = machine.folder / "0.jpg", ["w5 w6", "w7", "w8 w9 w10"]
    found = []
    for dtype in ("bfloat16", "float32"):
        assistant = Assistant.load(machine.folder / "model", str(machine.device), dtype)  # type: ignore[arg-type]
        [(_, one)] = assistant.likelihoods([(image, QUESTION)], [choices])
        found.append([total for total, _ in one])
        assert len(assistant.chat(image, QUESTION, max_new_tokens=8)) > 0
    return close(*found, 3e-2, "likelihoods")


def serve(machine: Machine, bits: Any = None) -> str:
    """Several answers of the engine at once."""
    ends: list[Any] = []
    device = str(machine.device)
    with Engine.load(machine.folder / "model", device, torch.bfloat16, Limits(batch=4), bits=bits) as engine:
        reader = ImageReader(engine.image_processor, engine.image_grid)
        picture = reader.read((machine.folder / "0.jpg").read_bytes(), "image")
        ids = engine.prompt([Turn("user", f"<image>\n{QUESTION}")], [picture.tokens])
        jobs = [Job(ids, [picture], Sampling(max_tokens=8), lambda piece: ends.append(piece.end)) for _ in range(4)]
        engine.submit(jobs)
        while sum(one is not None for one in ends) < 4:
            time.sleep(0.05)
    reasons = {one for one in ends if one}
    assert reasons <= {"stop", "length"}, reasons
    return "4 answers at once"


@check("engine in bf16")
def engine_bf16(machine: Machine) -> str:
    """As `vistune serve` runs it."""
    return serve(machine)


@check("engine in 4 bits")
def engine_4bit(machine: Machine) -> str:
    """As `vistune serve --load-in-4bit` runs it."""
    machine.needs_gpu()
    needs_bitsandbytes()
    return serve(machine, 4)


@check("speed of a 1B model")
def speed(machine: Machine) -> str:
    """Stage 2 beside transformers' Trainer."""
    machine.needs_gpu()
    figures = machine.folder / "speed.json"
    command = [
        sys.executable, str(Path(__file__).with_name("train_throughput.py")), "--shape", "1b", "--device", "cuda",
        "--precision", "bf16", "--batch-size", "64", "--micro-batch-size", "8", "--our-micro-batch-size", "16",
        "--steps", "12", "--warm-up", "4", "--peers", "hf" if find_spec("datasets") else "", "--json", str(figures),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(figures.read_text())["results"]
    ours = results["ours"]
    text = f"{ours['tokens'] / ours['seconds']:,.0f} tokens/s, {ours['share_of_peak']:.0%} of the measured peak"
    return text + (f", {results['hf']['ratio']:.2f} times the Trainer's samples/s" if "hf" in results else "")


def prepare(folder: Path) -> None:
    """The small model and its data."""
    shape = SHAPES["tiny"]
    make_backbones(shape, folder)
    make_data(shape, "tune", 16, folder)
    model = ModelRecipe(
        vision_tower=str(folder / "vision"), language_model=str(folder / "language"), projector="mlp2x_gelu",
        image_aspect="stretch",
    )  # fmt: skip
    save_checkpoint(*assemble(model), folder / "model")


def run(machine: Machine, function: Callable[[Machine], str]) -> tuple[str, str, str]:
    """A line of the table, and the traceback of a failure."""
    try:
        with redirect_stdout(io.StringIO()):  # the lines of runs
            return "ok", function(machine), ""
    except SkippedError as reason:
        return "skipped", str(reason), ""
    except Exception as error:  # whatever it is, the other checks go on
        return "FAILED", f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}", traceback.format_exc()


def main() -> int:
    """Run all checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-speed", action="store_true", help="leave the throughput out")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="checks of these names only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    chosen = [one for one in CHECKS if arguments.only is None or one[0] in arguments.only]
    failures = {}
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(torch.device(arguments.device), Path(folder))
        prepare(machine.folder)
        print("| check | | |\n|---|---|---|")
        for name, function in chosen:
            if name.startswith("speed") and arguments.no_speed:
                continue
            result, detail, failure = run(machine, function)
            print(f"| {name} | {result} | {detail} |", flush=True)
            failures |= {name: failure} if failure else {}
    end_processes()
    for name, failure in failures.items():
        print(f"\n{name}\n{failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
