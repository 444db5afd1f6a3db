"""The optimizer, and how its learning rate goes over a stage."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from vistune.recipe.training import StageRecipe
from vistune.train.stages import parts


def total_steps(epoch_size: int, stage: StageRecipe) -> int:
    """The optimizer steps of a stage: as many full batches as come closest to its epochs, at least one."""
    return max(1, round(stage.epochs * epoch_size / stage.batch_size))


def schedule(step: int, total: int, stage: StageRecipe) -> float:
    """The share of the peak learning rate in a step (from 0): up along a line, then as the recipe's `schedule`."""
    warmup = math.ceil(stage.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    passed = (step - warmup) / (total - warmup)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * passed)), "linear": 1 - passed, "constant": 1.0}[stage.schedule]


def adamw(model: LlavaForConditionalGeneration, stage: StageRecipe) -> torch.optim.Optimizer:
    """AdamW with each part's learning rate; weight decay on matrices only, as usual."""
    groups = []
    for part in stage.trains:
        peak = stage.learning_rates.get(part, stage.learning_rate)
        modules = nn.ModuleList(parts(model)[part])  # a weight that two modules share comes once
        weights = [weight for weight in modules.parameters() if weight.requires_grad]
        for decay, chosen in (
            (stage.weight_decay, [weight for weight in weights if weight.ndim >= 2]),
            (0.0, [weight for weight in weights if weight.ndim < 2]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "peak": peak})
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=stage.adam_betas, fused=True)
