"""The language model's head where there is a target to predict, and the loss there, without all logits at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_LOGITS_AT_ONCE = 6 * 2**20
"""24 MB of logits: they stay near the processor, and their memory is used again for the next ones."""


def target_loss(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy, in float32, summed over the targets.

    `states` (T, D) are the language model's at the tokens that predict `targets` (T). The families that scale or cap
    their logits (Granite, Cohere, Gemma 2) do so here, too; transformers' `LlavaForConditionalGeneration` does not.
    """
    head, config = model.lm_head, model.config.text_config
    states = states * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    rows = max(64, _LOGITS_AT_ONCE // head.out_features)
    if cap := getattr(config, "final_logit_softcapping", None):
        losses = [
            checkpoint(_capped, head, cap, some, wanted, use_reentrant=False)
            for some, wanted in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        return torch.stack(losses).sum()
    if len(states) <= rows:
        return F.cross_entropy(head(states).float(), targets, reduction="sum")
    weight, bias = head.weight, head.bias
    if torch.is_autocast_enabled(states.device.type):
        low = torch.get_autocast_dtype(states.device.type)
        states, weight, bias = states.to(low), weight.to(low), None if bias is None else bias.to(low)
    chunks = LinearCrossEntropyOptions(batch_chunk_size=rows, chunking_method=None)
    loss = F.linear_cross_entropy(states, weight, targets, linear_bias=bias, reduction="sum", options=chunks)
    return loss.float()


def _capped(head: Any, cap: float, states: Tensor, targets: Tensor) -> Tensor:
    logits = cap * torch.tanh(head(states).float() / cap)  # (T, V)
    return F.cross_entropy(logits, targets, reduction="sum")
