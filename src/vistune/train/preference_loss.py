"""DPO's loss (Rafailov et al. 2023): an answer gets likelier than another one, compared with a reference model.

The reference is the model without its adapters, run in the same step; image and question are computed once for both
answers. Loss and figures are those of TRL's DPOTrainer with `loss_type: sigmoid`. RPO (Pang et al. 2024) adds the
cross-entropy of the chosen answer, as DPO alone often makes both answers less likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from vistune.data.collate import Batch
from vistune.model.adapters import lora_layers
from vistune.model.linear_cross_entropy import log_likelihoods
from vistune.train.target_loss import TargetLoss


class PreferenceLoss(TargetLoss):
    """DPO's loss summed over the pairs of a row, each of which is a group with a chosen and a rejected branch.

    `options` are those of `TargetLoss`. Dropout is off, as in TRL: with it, policy and reference would differ by noise.
    """

    figures = (
        "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"
    )  # fmt: skip

    def __init__(
        self, model: LlavaForConditionalGeneration, *, beta: float, rpo_alpha: float = 0.0, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self._beta, self._rpo_alpha = beta, rpo_alpha
        self._sums = self._no_sums()
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0

    def forward(self, batch: Batch, scale: float = 1.0) -> Tensor:
        """The sum times `scale`, in float32."""
        embeds = self.embed(batch)  # adapters are in the language model only
        with torch.no_grad(), without_adapters(self.model):
            reference = self._answers(embeds, batch)
        own = self._answers(embeds, batch)
        rewards = self._beta * (own - reference)  # (P, 2)
        margins = rewards[:, 0] - rewards[:, 1]
        better = (margins > 0).float()[:, None]
        figures = torch.cat([rewards, better, margins[:, None], own], dim=1).detach()  # (P, F)
        self._sums = self._sums.to(figures.device) + figures.sum(0)
        cross_entropy = -own[:, 0] / self._lengths(batch)[:, 0]
        return (self._rpo_alpha * cross_entropy - F.logsigmoid(margins)).sum() * scale

    def _lengths(self, batch: Batch) -> Tensor:
        """The number of targets (P, 2) of each pair's chosen and rejected answer."""
        return batch.answer_of.bincount(minlength=2 * len(batch.segments)).view(-1, 2)

    def _answers(self, embeds: Tensor, batch: Batch) -> Tensor:
        """The log-likelihoods (P, 2) of each pair's chosen and rejected answer."""
        each = log_likelihoods(self.model, self.states(embeds, batch), batch.targets)  # (T)
        pairs = each.new_zeros(2 * len(batch.segments)).index_add(0, batch.answer_of, each)
        return pairs.view(-1, 2)

    def take_figures(self) -> Tensor:
        """The sums (F) over the pairs since the last call."""
        sums, self._sums = self._sums, self._no_sums()
        return sums.to(self.model.device)

    def count(self, batch: Batch) -> int:
        """What the loss is a mean over: the pairs."""
        return len(batch.segments)

    def _no_sums(self) -> Tensor:
        return torch.zeros(len(self.figures))


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The model without its LoRA adapters meanwhile."""
    layers: list[Any] = [*lora_layers(model)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
