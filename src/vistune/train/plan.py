"""What a recipe would train, need and cost, without training: `vistune train RECIPE --plan`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.table import Table
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.encode import Sample
from vistune.data.groups import Group, make_groups
from vistune.model.adapter_checkpoint import Backbones, open_checkpoint, starting_point
from vistune.recipe.training import Recipe, StageRecipe
from vistune.train.features import first_views
from vistune.train.flops import Work, flops, measured_peak, our_work, plain_work
from vistune.train.frozen_half import half_dtype
from vistune.train.log import peak_memory
from vistune.train.loop import total_steps
from vistune.train.memory import stage_memory
from vistune.train.stages import open_stage_data, prepare_stage

_SAMPLED_STEPS = 20
"""Number of steps whose conversations are read; their mean stands for all."""
UTILIZATION = 0.5
"""The share of the measured matrix-product peak that the estimate of time assumes."""


@dataclass(frozen=True)
class StagePlan:
    """A stage in numbers. Tokens and operations are a mean step's; memory is in bytes, time in seconds."""

    name: str
    trained: int
    weights: int
    conversations: int
    steps: int
    tokens: float
    targets: float
    savings: list[tuple[str, float]]
    """The operations of a step: those of the plain forward pass, then those left after each saving."""
    memory: float
    seconds: float


def plan(recipe: Recipe) -> list[StagePlan]:
    """Every stage of the recipe. Reads the data and the backbones' configurations, no weights (but of a GGUF file).

    Raises what `train` raises for a recipe, data or backbones that cannot be used.
    """
    held = 0 if torch.cuda.is_available() else peak_memory()  # before a GGUF file's weights are read
    base = starting_point(recipe)
    opened = base.assemble(weights=False) if isinstance(base, Backbones) else open_checkpoint(base, weights=False)
    model, processor = opened
    dtype = half_dtype(recipe) or torch.float32
    peak = measured_peak(torch.device("cuda" if torch.cuda.is_available() else "cpu"), dtype)
    plans = [_plan_stage(recipe, stage, copy.deepcopy(model), processor, peak) for stage in recipe.stages]
    return [replace(one, memory=held + one.memory) for one in plans]


def _plan_stage(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, processor: LlavaProcessor, peak: float
) -> StagePlan:
    printed: list[str] = []  # what training prints, and a plan does not
    data = open_stage_data(stage, printed.append)
    dataset, *_ = prepare_stage(recipe, stage, model, processor, data, output=printed.append, ahead=0)
    sampler = dataset.sampler(recipe.seed)
    steps = total_steps(sampler.epoch_size, stage)
    sampled = [
        [sample for index in sampler.step(int(step), stage.batch_size) if (sample := dataset.get(index))]
        for step in np.unique(np.linspace(0, steps - 1, _SAMPLED_STEPS).astype(int))
    ]
    groups = [make_groups(step) for step in sampled]
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    savings = _savings(recipe, stage, model, sampled, groups)
    return StagePlan(
        name=stage.name,
        trained=trained,
        weights=sum(weight.numel() for weight in model.parameters()),
        conversations=len(dataset),
        steps=steps,
        tokens=float(np.mean([sum(group.length for group in step) for step in groups])),
        targets=float(np.mean([our_work(step).logits for step in groups])),
        savings=savings,
        memory=stage_memory(recipe, stage, model, groups),
        seconds=savings[-1][1] * steps / (UTILIZATION * peak),
    )


def _savings(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, sampled: Sequence[Sequence[Sample]],
    groups: Sequence[Sequence[Group]],
) -> list[tuple[str, float]]:  # fmt: skip
    """The operations of a step, one saving after the other."""
    answers = [[answer for sample in step for answer in sample.versions] for step in sampled]
    size = stage.micro_batch_size * len(answers[0]) // len(sampled[0])
    padded = [plain_work([step[i : i + size] for i in range(0, len(step), size)]) for step in answers]
    single = [plain_work([[answer] for answer in step]) for step in answers]
    shared = [our_work(step) for step in groups]
    all_logits = [replace(one, logits=one.tokens) for one in shared]

    def cost(work: Sequence[Work], **whole: bool) -> float:
        passes: dict[str, Any] = {**whole, "reference": stage.loss == "dpo"}
        return float(np.mean([sum(flops(model, stage.trains, one, **passes).values()) for one in work]))

    savings = [
        ("the plain forward pass, padded", cost(padded, whole_tower=True, whole_last_layer=True)),
        ("no padding", cost(single, whole_tower=True, whole_last_layer=True)),
        ("an image's tokens once for all its conversations", cost(all_logits, whole_tower=True, whole_last_layer=True)),
        ("the head at targets only", cost(shared, whole_tower=True, whole_last_layer=True)),
        ("the last layer at targets only", cost(shared, whole_tower=True)),
        ("no unused layers of the tower", cost(shared)),
    ]
    if (first := first_views(recipe, stage)) < 1:
        blind = [replace(one, crops=0) for one in shared]
        savings.append(("cached features of a frozen tower", first * savings[-1][1] + (1 - first) * cost(blind)))
    return savings


def table(plans: Sequence[StagePlan]) -> Table:
    """The plan for the terminal."""
    shown = Table("", *(one.name for one in plans), title="plan")
    rows: list[tuple[str, list[str]]] = [
        ("trained weights", [f"{one.trained:,} of {one.weights:,}" for one in plans]),
        ("conversations", [f"{one.conversations:,}" for one in plans]),
        ("steps", [f"{one.steps:,}" for one in plans]),
        ("tokens per step", [f"{one.tokens:,.0f}, of which {one.targets:,.0f} targets" for one in plans]),
        ("operations per step", [_operations(one.savings[-1][1]) for one in plans]),
        ("memory, about", [_memory_size(one.memory) for one in plans]),
        (f"time here, at {UTILIZATION:.0%} of the peak", [_duration(one.seconds) for one in plans]),
    ]
    for name, cells in rows:
        shown.add_row(name, *cells)
    shown.add_section()
    for name in dict.fromkeys(saving for one in plans for saving, _ in one.savings):
        left = [dict(one.savings).get(name) for one in plans]
        shares = [value and f"{value / one.savings[0][1]:.0%}" for value, one in zip(left, plans, strict=True)]
        shown.add_row(name, *(share or "" for share in shares))
    return shown


def _operations(count: float) -> str:
    for unit in ("G", "T", "P"):
        count /= 1000 if unit != "G" else 1e9
        if count < 1000:
            break
    return f"{count:,.1f} {unit}FLOP"


def _memory_size(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
