"""The language model's head where there is a target to predict, and the loss there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def target_loss(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy, in float32, summed over the targets.

    `states` (T, D) are the language model's at the tokens that predict `targets` (T). The families that cap their
    logits (Gemma) do so here, too; transformers' `LlavaForConditionalGeneration` leaves that out.
    """
    logits = model.lm_head(states).float()  # (T, V)
    if cap := getattr(model.config.text_config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return F.cross_entropy(logits, targets, reduction="sum")
