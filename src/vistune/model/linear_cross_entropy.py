"""The language model's head where there is a target to predict, and the loss there, without all logits at once.

Loss and gradients are computed together, chunk by chunk, so that logits are computed once and never stored. The
gradient of the head's weight has as many rows as the vocabulary: where one process trains, it is added to `weight.grad`
right away, as a copy in every micro-batch would cost more time than the rest of a small language model's step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_LOGITS_AT_ONCE = 6 * 2**20
"""24 MB of logits: they stay in the cache of the processor, and the next ones reuse their memory."""
_GPU_SHARE, _GPU_BYTES, _GPU_ROWS = 1 / 8, 16, 4096
"""On a GPU logits take this share of its free memory, each this many bytes while its gradient is computed; more rows
would make their products no faster."""


def linear_cross_entropy(
    model: Any, states: Tensor, targets: Tensor, scale: float = 1.0, *, in_place: bool = False
) -> Tensor:
    """The cross-entropy, in float32, summed over the targets, times `scale`.

    `states` (T, D) are the language model's at the tokens that predict `targets` (T). The families that scale or cap
    their logits (Granite, Cohere, Gemma 2) do so here, too; transformers' `LlavaForConditionalGeneration` does not.
    With `in_place` the head's gradient is already in `weight.grad` when this returns: `backward` has to be called on
    the loss as it is.
    """
    weight, bias = model.lm_head.weight, model.lm_head.bias
    states, cap = _scaled(model, states)
    train = torch.is_grad_enabled()
    into = weight.grad if in_place and train and weight.requires_grad else None
    apply: Any = _ChunkedLoss.apply
    loss: Tensor = apply(states, weight, bias, targets, scale, cap, train, into)
    return loss


def log_likelihoods(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """The log-likelihood of each target (T), in float32, for losses that are no sum over targets.

    As `linear_cross_entropy`, but logits are computed again in the backward pass: their gradients depend on the result.
    """
    weight, bias = model.lm_head.weight, model.lm_head.bias
    states, cap = _scaled(model, states)

    def of_chunk(chunk: Tensor, chosen: Tensor) -> Tensor:
        logits = F.linear(chunk, weight.to(chunk.dtype), None if bias is None else bias.to(chunk.dtype)).float()
        return -F.cross_entropy(cap * torch.tanh(logits / cap) if cap else logits, chosen, reduction="none")

    rows = rows_at_once(weight)
    chunks = zip(states.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(of_chunk, *chunk, use_reentrant=False) for chunk in chunks])


def _scaled(model: Any, states: Tensor) -> tuple[Tensor, float | None]:
    """The states as the head reads them, and the cap of its logits."""
    config = model.config.text_config
    states = states * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    if torch.is_autocast_enabled(states.device.type):
        states = states.to(torch.get_autocast_dtype(states.device.type))
    return states, getattr(config, "final_logit_softcapping", None)


class _ChunkedLoss(torch.autograd.Function):
    """The loss, and with it its gradients: all but the one that goes `into` a tensor are scaled by `backward`."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float, cap: float | None,
        train: bool, into: Tensor | None,
    ) -> Tensor:  # fmt: skip
        low, offset = weight.to(states.dtype), None if bias is None else bias.to(states.dtype)  # (V, D), (V)
        ctx.gradients = [
            torch.zeros_like(one, dtype=dtype)
            if train and one is not None and one.requires_grad and not given
            else None
            for one, given, dtype in (
                (states, False, states.dtype),
                (weight, into is not None, torch.float32),  # in which chunks add up
                (bias, False, torch.float32),
            )
        ]
        ctx.dtypes = states.dtype, weight.dtype, None if bias is None else bias.dtype
        for_states, for_weight, for_bias = ctx.gradients
        if into is not None:
            for_weight = into
        loss = states.new_zeros((), dtype=torch.float32)
        rows = rows_at_once(weight)
        memory = states.new_empty(min(rows, len(states)), len(weight))
        for start in range(0, len(states), rows):
            chunk, chosen = states[start : start + rows], targets[start : start + rows, None]  # (t, D), (t, 1)
            logits = torch.mm(chunk, low.T, out=memory[: len(chunk)])  # (t, V)
            logits = (logits if offset is None else logits.add_(offset)).float()
            if cap:
                logits.div_(cap).tanh_().mul_(cap)
                slope = 1 - (logits / cap).square()
            wanted, largest = logits.gather(1, chosen), logits.amax(-1, keepdim=True)
            powers = logits.sub_(largest).exp_()
            total = powers.sum(-1, keepdim=True)
            loss += (largest + total.log() - wanted).sum()
            if not train:
                continue
            # of the logits' gradient, row by row total times, which saves dividing all of it
            wrong = powers.scatter_add_(1, chosen, -total)
            if cap:
                wrong.mul_(slope)
            share = scale / total
            if low.dtype == torch.float16:  # holds neither `total` nor small numbers that are not scaled
                wrong, share = wrong.mul_(share), torch.ones_like(share)
            if for_bias is not None:
                for_bias.add_((wrong * share).sum(0))
            wrong = wrong.to(low.dtype)
            if for_states is not None:
                torch.mm(wrong, low, out=for_states[start : start + rows]).mul_(share)
            if for_weight is not None:
                _add_product(for_weight, wrong.T, (chunk * share).to(low.dtype))
        return loss * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (
            None if one is None else one.mul_(gradient).to(dtype)
            for one, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        )  # fmt: skip
        return (*scaled, *[None] * 5)


def rows_at_once(weight: Tensor) -> int:
    """The number of targets of which all logits are in memory at a time; `weight` (V, D) is the head's."""
    if weight.device.type != "cuda":
        return max(64, _LOGITS_AT_ONCE // len(weight))
    free, _ = torch.cuda.mem_get_info(weight.device)
    free += torch.cuda.memory_reserved(weight.device) - torch.cuda.memory_allocated(weight.device)
    rows = int(_GPU_SHARE * free) // (_GPU_BYTES * len(weight))
    return 1 << min(max(rows, 64), _GPU_ROWS).bit_length() - 1  # a power of two: rarely another one in the next step


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left (V, t) times right (t, D) to `into` (V, D), whose dtype may be wider than theirs."""
    if into.dtype == left.dtype:
        into.addmm_(left, right)
    else:
        into.add_(left @ right)
