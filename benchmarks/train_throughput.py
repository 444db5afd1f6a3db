"""Training throughput against peers: the same weights, conversations, order, batches and precision in one run.

    python benchmarks/train_throughput.py --shape small-lm|7b --stage align|tune|lora --peers hf,trl,swift,llamafactory
    python benchmarks/train_throughput.py --shape 1b --device cuda --precision bf16 --batch-size 64 \\
        --micro-batch-size 8 --our-micro-batch-size 16 --steps 12 --warm-up 4 --peers hf,trl

The data has LLaVA-Instruct's statistics: about two conversations an image, one to five exchanges each. The peers get
their conversations already tokenised and their images already decoded; ours does both by itself. Every contestant
runs in a process of its own, one after the other. The peers hf and trl need `pip install 'vistune[bench]'`; swift and
llamafactory get environments of their own in --env-dir at their first use (2 GB each). `--json FILE` keeps
the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peer_environments import TRAINERS, Unavailable, environment, run_peer
from training_shapes import SHAPES, make_backbones, make_data

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TRAINS = {"align": ["projector"], "tune": ["projector", "language"], "lora": ["projector", "lora"]}
LORA = {"rank": 16, "alpha": 32, "dropout": 0.0}
RATE = 1e-4


def make_recipe(folder: Path, arguments: argparse.Namespace) -> Any:
    """Our recipe of the stage: exactly one pass over the data."""
    from vistune.recipe.training import StageRecipe

    return StageRecipe(
        name=arguments.stage, data=str(folder / "data.json"), images=str(folder), trains=TRAINS[arguments.stage],
        lora=LORA if arguments.stage == "lora" else None, epochs=1, batch_size=arguments.batch_size,
        micro_batch_size=arguments.our_micro_batch_size, learning_rate=RATE, warmup_ratio=0, checkpoint_every=10**6,
        log_every=1,
    )  # fmt: skip


class Prepared:
    """The model, as the stage trains it, and its conversations in our order."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        from vistune.data.encode import Encoder
        from vistune.model.adapters import add_lora
        from vistune.model.checkpoint import load_checkpoint
        from vistune.model.vision import image_grid
        from vistune.recipe.training import LoraRecipe
        from vistune.train.stages import freeze

        self.recipe = make_recipe(folder, arguments)
        self.model, self.processor = load_checkpoint(folder / "model")
        if arguments.stage == "lora":
            add_lora(self.model, LoraRecipe(**LORA), seed=0)
        freeze(self.model, TRAINS[arguments.stage])
        self.encoder = Encoder(
            self.processor.tokenizer, str(self.processor.chat_template), image_grid(self.model.config)
        )

    def dataset(self) -> Any:
        """Our data set of the stage, read and encoded."""
        from vistune.data.dataset import Dataset, open_sources

        return Dataset(open_sources(self.recipe.sources()), self.encoder, self.recipe.max_length)

    def samples(self) -> list[Any]:
        """All samples in our order, as the peers get them."""
        dataset, size = self.dataset(), self.recipe.batch_size
        order = dataset.sampler(seed=0)
        return [dataset.get(i) for step in range(len(dataset) // size) for i in order.step(step, size)]


def run_ours(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Our own training of the stage, encoding and decoding of images included."""
    import torch
    from accelerate import Accelerator

    from vistune.data.groups import make_groups
    from vistune.recipe.training import Recipe
    from vistune.train.flops import flops, measured_peak, our_work
    from vistune.train.loop import train_stage

    one = Prepared(folder, arguments)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        gpu, bf16 = arguments.device == "cuda", arguments.precision == "bf16"
        recipe = Recipe(
            name="benchmark", start=str(folder / "model"), stages=[one.recipe], precision=arguments.precision,
            compile=gpu, log_to=[],
        )  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = True
        train_stage(
            one.model, one.processor, one.dataset(), recipe, one.recipe, accelerator=Accelerator(cpu=not gpu),
            folder=Path(out),
        )  # fmt: skip
        seconds = time.perf_counter() - start
        log = [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]
    if arguments.warm_up:
        seconds = sum(arguments.batch_size / line["samples_per_second"] for line in log[arguments.warm_up :])
    peak_mb = _peak_mb()
    measured = one.samples()[arguments.warm_up * arguments.batch_size :]
    work = sum(flops(one.model, one.recipe.trains, our_work(make_groups(measured))).values())
    peak = measured_peak(torch.device(arguments.device), torch.bfloat16 if bf16 else torch.float32)
    tokens = sum(len(sample.input_ids) for sample in measured)
    return {
        "seconds": seconds, "losses": [line["loss"] for line in log], "peak_mb": peak_mb, "tokens": tokens,
        "share_of_peak": work / seconds / peak,
    }  # fmt: skip


def run_hf(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """transformers' Trainer with a collator that pads; conversations tokenised and images decoded beforehand."""
    from transformers import Trainer, TrainingArguments

    return _run_trainer(Trainer, TrainingArguments, folder, arguments)


def run_trl(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """TRL's SFTTrainer with the same collator, without activation checkpointing, which would slow it down."""
    from trl import SFTConfig, SFTTrainer

    return _run_trainer(
        SFTTrainer, SFTConfig, folder, arguments, max_length=None, gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip


def _run_trainer(
    trainer_class: Any, config_class: Any, folder: Path, arguments: argparse.Namespace, **options: Any
) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from torch.nn.utils.rnn import pad_sequence
    from transformers import TrainerCallback

    from vistune.data.images import open_image, to_pixels

    one = Prepared(folder, arguments)
    samples = one.samples()
    names = {name for sample in samples for name in sample.images}
    pixels = {name: to_pixels(one.processor.image_processor, open_image(Path(name))) for name in names}

    def collate(rows: list[Any]) -> dict[str, Any]:
        chosen = [samples[row["number"]] for row in rows]
        ids = [torch.from_numpy(sample.input_ids).long() for sample in chosen]
        labels = [one.masked_fill(~torch.from_numpy(s.targets), -100) for one, s in zip(ids, chosen, strict=True)]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=3),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "pixel_values": torch.cat([pixels[name] for sample in chosen for name in sample.images]),
        }

    gpu, ends = arguments.device == "cuda", [time.perf_counter()]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if gpu:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        config = config_class(
            out, max_steps=len(samples) // arguments.batch_size, learning_rate=RATE, lr_scheduler_type="cosine",
            per_device_train_batch_size=arguments.micro_batch_size, train_sampling_strategy="sequential",
            gradient_accumulation_steps=arguments.batch_size // arguments.micro_batch_size, logging_steps=1,
            save_strategy="no", report_to=[], remove_unused_columns=False, use_cpu=not gpu, seed=0, weight_decay=0,
            disable_tqdm=True, bf16=arguments.precision == "bf16", tf32=True if gpu else None, **options,
        )  # fmt: skip
        rows = Dataset.from_dict({"number": range(len(samples)), "images": [[]] * len(samples)})
        trainer = trainer_class(
            model=one.model, args=config, train_dataset=rows, data_collator=collate, processing_class=one.processor,
            callbacks=[Clock()],
        )  # fmt: skip
        ends[0] = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - ends[0]
    if arguments.warm_up:
        seconds = ends[-1] - ends[arguments.warm_up]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"seconds": seconds, "losses": [float(loss) for loss in losses], "peak_mb": _peak_mb()}


CONTESTANTS = {"ours": run_ours, "hf": run_hf, "trl": run_trl}
NAMES = {
    "ours": "vistune", "hf": "transformers' Trainer", "trl": "TRL's SFTTrainer", "swift": "ms-swift",
    "llamafactory": "LLaMA-Factory",
}  # fmt: skip


def _peak_mb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contest(name: str, folder: Path, given: list[str]) -> dict[str, Any]:
    """One contestant in its own process: seconds, losses, and the peak memory of its process."""
    command = [sys.executable, __file__, "--contestant", name, "--folder", str(folder), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def contest_apart(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same for a peer in an environment of its own; instead of figures the reason why there are none."""
    with tempfile.TemporaryDirectory() as out:
        settings = {
            "folder": str(folder), "out": out, "stage": arguments.stage, "rate": RATE, "threads": arguments.threads,
            "batch_size": arguments.batch_size, "micro_batch_size": arguments.micro_batch_size,
            "lora": LORA if arguments.stage == "lora" else None,
        }  # fmt: skip
        try:
            return run_peer(name, environment(name, arguments.env_dir), settings)
        except Unavailable as reason:
            return {"unavailable": str(reason)}


def write_in_order(folder: Path, arguments: argparse.Namespace) -> None:
    """The conversations in our order, for peers that read them by themselves."""
    rows = {row["id"]: row for row in json.loads((folder / "data.json").read_text())}
    ordered = [rows[sample.id] for sample in Prepared(folder, arguments).samples()]
    (folder / "ordered.json").write_text(json.dumps(ordered))


def main() -> None:
    """Make the model and the data, run every contestant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small-lm")
    parser.add_argument("--stage", choices=TRAINS, default="tune")
    parser.add_argument("--peers", default="hf,trl", help="comma-separated: hf, trl, swift, llamafactory")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--micro-batch-size", type=int, default=4, help="the peers'; ours has its own below")
    parser.add_argument("--our-micro-batch-size", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--warm-up", type=int, default=0, help="first steps that are not measured (compilation)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    home = Path.home() / ".cache" / "vistune-bench"
    parser.add_argument("--env-dir", type=Path, default=home, help="where the environments of peers are made")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        import torch

        torch.set_num_threads(arguments.threads)
        print(json.dumps(CONTESTANTS[arguments.contestant](arguments.folder, arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), arguments)
        results = {}
        for one in ("ours", *(peer for peer in arguments.peers.split(",") if peer)):
            if one in TRAINERS:
                write_in_order(Path(name), arguments)
                results[one] = contest_apart(one, Path(name), arguments)
            else:
                results[one] = contest(one, Path(name), sys.argv[1:])
    for figures in (one for one in results.values() if "seconds" in one):
        steps = arguments.steps - arguments.warm_up
        figures["samples_per_second"] = steps * arguments.batch_size / figures["seconds"]
        figures["ratio"] = results["ours"]["samples_per_second"] / figures["samples_per_second"]
        figures["memory_ratio"] = results["ours"]["peak_mb"] / figures["peak_mb"]
    show(results, arguments)
    if arguments.json:
        settings = {key: getattr(arguments, key) for key in ("shape", "stage", "steps", "batch_size", "threads")}
        arguments.json.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n", "utf-8")


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """The untrained assistant and the data."""
    from vistune.model.assemble import assemble
    from vistune.model.checkpoint import save_checkpoint
    from vistune.recipe.training import ModelRecipe

    shape = SHAPES[arguments.shape]
    make_backbones(shape, folder)
    make_data(shape, arguments.stage, arguments.steps * arguments.batch_size, folder)
    model = ModelRecipe(
        vision_tower=str(folder / "vision"), language_model=str(folder / "language"), projector="mlp2x_gelu",
        image_aspect="stretch",
    )  # fmt: skip
    save_checkpoint(*assemble(model), folder / "model")


def show(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """The table, as benchmarks/results/training.md has it."""
    place = "CUDA" if arguments.device == "cuda" else f"{arguments.threads} threads"
    print(f"{arguments.shape}, stage {arguments.stage}, {place}, {arguments.precision}\n")
    print("| | samples/s | ours / peer | peak MB | ours / peer | losses of the first and last two steps |")
    print("|---|---|---|---|---|---|")
    for one, figures in results.items():
        if "unavailable" in figures:
            print(f"| {NAMES[one]} | not run: {figures['unavailable']} | | | | |")
            continue
        losses = ", ".join(f"{loss:.4f}" for loss in figures["losses"][:1] + figures["losses"][-2:])
        ratios = ("", "") if one == "ours" else (f"{figures['ratio']:.2f}", f"{figures['memory_ratio']:.2f}")
        print(
            f"| {NAMES[one]} | {figures['samples_per_second']:.2f} | {ratios[0]} "
            f"| {figures['peak_mb']:.0f} | {ratios[1]} | {losses} |"
        )
    print(f"\nours: {100 * results['ours']['share_of_peak']:.0f} % of this device's measured matrix-product peak")


if __name__ == "__main__":
    main()
