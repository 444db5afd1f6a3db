"""DPO against TRL: losses and rewards of the same steps, from the same pairs.jsonl, base model and adapters.

    python benchmarks/dpo_trl.py [--steps 8] [--batch-size 8]

Ours trains a stage of Emoji-COCO's pairs on the miniature backbones. TRL's DPOTrainer gets the file as `datasets` reads
it, tokenises by itself, and takes our first adapters; its losses drive the same optimizer over the same pairs. Needs
`pip install 'vistune[bench]'`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import trl
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from torch import nn

from vistune.data.collate import collate
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore
from vistune.demo.dataset import write_dataset
from vistune.generate import GenerateRecipe, generate
from vistune.model.adapter_checkpoint import Backbones
from vistune.model.checkpoint import load_checkpoint, save_checkpoint
from vistune.recipe.training import Recipe
from vistune.train.preference_loss import PreferenceLoss
from vistune.train.stages import open_stage_data, prepare_stage

LORA = {"rank": 16, "alpha": 32, "dropout": 0.0}
RATE, BETA = 1e-3, 0.1
FIGURES = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)


def make_recipe(folder: Path) -> Recipe:
    """One stage of DPO on the pairs in `folder`."""
    model = {"vision_tower": "mini", "language_model": "mini", "projector": "mlp2x_gelu", "image_aspect": "stretch"}
    stage = {
        "name": "prefer", "data": str(folder / "out/pairs.jsonl"), "images": str(folder / "data"), "trains": ["lora"],
        "lora": LORA, "loss": "dpo", "beta": BETA, "epochs": 1, "batch_size": 8, "micro_batch_size": 8,
        "learning_rate": RATE,
    }  # fmt: skip
    return Recipe.model_validate({"name": "dpo", "model": model, "stages": [stage]})


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the adapters."""
    return torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=RATE)


def ours(recipe: Recipe, folder: Path, steps: int, size: int) -> tuple[list[list[int]], list[list[float]], Any, float]:
    """Each step's pairs and figures, the adapters before the first, and the seconds."""
    model, processor = load_checkpoint(folder / "model")
    stage = recipe.stages[0]
    [dataset] = prepare_stage(recipe, stage, model, processor, open_stage_data(stage, print), output=print)
    store = ImageStore(dataset.image, processor.image_processor)
    loss = PreferenceLoss(model, beta=stage.beta)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(weight, std=0.02)
    first = {name: weight.detach().clone() for name, weight in model.named_parameters() if ".lora_" in name}
    adamw = optimizer(model)
    chosen = [dataset.sampler(recipe.seed).step(step, size) for step in range(steps)]
    figures, start = [], time.perf_counter()
    for indices in chosen:
        pairs = [sample for index in indices if (sample := dataset.get(index))]
        value = loss(collate(make_groups(pairs), store.get), 1 / size)
        value.backward()
        adamw.step()
        adamw.zero_grad()
        named = dict(zip(loss.figures, (loss.take_figures() / size).tolist(), strict=True))
        figures.append([value.item(), *(named[name] for name in FIGURES)])
    return chosen, figures, first, time.perf_counter() - start


def theirs(folder: Path, chosen: list[list[int]], first: dict[str, Any]) -> tuple[list[list[float]], float]:
    """The figures of TRL's DPOTrainer over the same pairs, and the seconds."""
    model, processor = load_checkpoint(folder / "model")
    rows = datasets.load_dataset("json", data_files=str(folder / "out/pairs.jsonl"), split="train")
    rows = rows.map(lambda row: {"images": [str(folder / "data" / name) for name in row["images"]]})
    rows = rows.cast_column("images", datasets.List(datasets.Image()))
    layers = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in first})
    settings = LoraConfig(
        r=LORA["rank"], lora_alpha=LORA["alpha"], lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=rf".*language_model\..*\.({'|'.join(layers)})",
    )  # fmt: skip
    config = trl.DPOConfig(output_dir=str(folder / "trl"), beta=BETA, report_to="none", max_length=None, use_cpu=True,
                           bf16=False, gradient_checkpointing=False)  # fmt: skip
    trainer = trl.DPOTrainer(model, args=config, train_dataset=rows, processing_class=processor, peft_config=settings)
    own = {name.removeprefix("base_model.model."): weight for name, weight in trainer.model.named_parameters()}
    with torch.no_grad():
        for name, weight in first.items():
            own[name].copy_(weight)
    adamw = optimizer(trainer.model)
    trainer.model.train()
    figures, start = [], time.perf_counter()
    for indices in chosen:
        batch = trainer.data_collator([rows[index] for index in indices])
        value = trainer.compute_loss(trainer.model, batch)
        value.backward()
        adamw.step()
        adamw.zero_grad()
        logged = trainer._metrics["train"]
        figures.append([value.item(), *(logged[name][-1] for name in FIGURES)])
    return figures, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=60, help="annotated images to make pairs of")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data", seed=0, train=arguments.images, val=0, test=0)
        generate(GenerateRecipe(data=str(folder / "data"), source="coco", pairs=True), folder / "out")
        recipe = make_recipe(folder)
        assert recipe.model
        save_checkpoint(*Backbones(recipe.model, recipe.seed).assemble(), folder / "model", torch.float32)
        chosen, own, first, own_seconds = ours(recipe, folder, arguments.steps, arguments.batch_size)
        other, other_seconds = theirs(folder, chosen, first)
    table = Table("step", "loss", f"TRL {trl.__version__}", *(f"{name} (TRL)" for name in FIGURES[:4]), "difference")
    for step, (one, two) in enumerate(zip(own, other, strict=True), 1):
        shown = [f"{a:.4f} ({b:.4f})" for a, b in zip(one[1:5], two[1:5], strict=True)]
        gap = max(abs(a - b) for a, b in zip(one, two, strict=True))
        table.add_row(str(step), f"{one[0]:.6f}", f"{two[0]:.6f}", *shown, f"{gap:.1e}")
    console = Console(width=160)
    console.print(table)
    gap = max(abs(one[0] - two[0]) for one, two in zip(own, other, strict=True))
    console.print(f"largest difference of losses: {gap:.1e}; seconds: {own_seconds:.1f}, TRL {other_seconds:.1f}")


if __name__ == "__main__":
    main()
