"""The optimizer of a stage: its learning rates, the norm of its gradients, and the scale of fp16's loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import LlavaForConditionalGeneration

from vistune.errors import require
from vistune.recipe.training import StageRecipe
from vistune.train.stages import parts


@dataclass
class LossScale:
    """The number that fp16's loss is multiplied by, as small gradients are zero in fp16 (arXiv:1710.03740).

    It is halved when a gradient overflows, whose step is left out, and doubled after many good ones. The same numbers
    as torch's GradScaler has, which cannot be used: it multiplies the loss in `backward`, and the head's gradient is
    complete before.
    """

    value: float = 2.0**16
    good_steps: int = 0
    """In a row, at this scale."""

    def update(self, *, finite: bool) -> None:
        """Adapt the scale to whether a step's gradients were finite."""
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good_steps == 2000:
            self.value, self.good_steps = self.value * 2, 0


def make_optimizer(model: LlavaForConditionalGeneration, stage: StageRecipe) -> torch.optim.Optimizer:
    """AdamW with each part's learning rate (`peak`); weight decay on matrices only, as usual."""
    groups = []
    for part in stage.trains:
        peak = stage.learning_rates.get(part, stage.learning_rate)
        modules = nn.ModuleList(parts(model)[part])  # a weight that two modules share comes once
        weights = [weight for weight in modules.parameters() if weight.requires_grad]
        for decay, chosen in (
            (stage.weight_decay, [weight for weight in weights if weight.ndim >= 2]),
            (0.0, [weight for weight in weights if weight.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "peak": peak})
    if stage.optim == "adamw_8bit":
        small = require("bitsandbytes.optim", "qlora", "optim: adamw_8bit").AdamW8bit
        optimizer: torch.optim.Optimizer = small(groups, lr=stage.learning_rate, betas=stage.adam_betas)
        return optimizer
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=stage.adam_betas, fused=True)


def check_optimizer(stage: StageRecipe) -> None:
    """Raises MissingPackageError if the stage's optimizer needs a package that is not installed."""
    if stage.optim == "adamw_8bit":
        require("bitsandbytes", "qlora", "optim: adamw_8bit", where=f"stages.{stage.name}.optim")


def schedule(step: int, total: int, stage: StageRecipe) -> float:
    """The share of the peak learning rate in a step (from 0): a linear warm-up, then the recipe's `schedule`."""
    warmup = math.ceil(stage.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    passed = (step - warmup) / (total - warmup)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * passed)), "linear": 1 - passed, "constant": 1.0}[stage.schedule]


def clip(weights: Iterable[nn.Parameter], largest: float, scale: float = 1.0) -> float:
    """Divide the gradients by `scale`, then scale them to the norm `largest` if theirs, over all processes, is larger.

    Returns their norm before that; gradients that overflowed have none.
    """
    chosen = [weight for weight in weights if weight.grad is not None]
    if scale != 1:
        for weight in chosen:
            weight.grad.div_(scale)  # type: ignore[union-attr]
    norm = nn.utils.clip_grad_norm_(chosen, largest)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
