"""The optimizers that both miniature backbones are trained with."""

from __future__ import annotations

import math

import torch
from torch import nn


class MuonWithAdam:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases; one warm-up and cosine.

    Muon: Jordan et al. 2024.
    """

    def __init__(self, model: nn.Module, *, lr: float, steps: int, weight_decay: float = 0.05) -> None:
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr / 3, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._parameters = [p for _, p in named]
        self._lr, self._steps, self._step = lr, steps, 0

    def step(self) -> None:
        """Clip the gradients to norm 1, take a step at the scheduled learning rate, and clear them."""
        self._step += 1
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        warmup = min(1.0, self._step / 40)
        cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * self._step / self._steps)) / 2
        for optimizer, lr in zip(self._optimizers, (self._lr, self._lr / 3), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * warmup * cosine
            optimizer.step()
            optimizer.zero_grad()
