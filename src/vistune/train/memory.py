"""The peak memory of a stage, from the shapes of its model and data.

What a layer keeps for the backward pass is counted by tensor: the two inputs of norms, queries, keys, values and what
the attention returns, three of the MLP, and where a matrix or its adapter is trained its input, too. (Softmaxes and
masks are left to `_REST`; a test compares with what autograd saves.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import LlavaForConditionalGeneration

from vistune.data.groups import Group
from vistune.model.linear_cross_entropy import rows_at_once
from vistune.recipe.training import Recipe, StageRecipe
from vistune.train.frozen_half import half_dtype, weight_bytes
from vistune.train.log import peak_memory

_REST = 1.04
_HALF = 0.65
"""The bytes of activations under autocast, in which the residual stream and norms stay in float32."""
_LOGIT = 12
"""Bytes of each logit that is in memory at a time, with its exponential and its gradient."""


def stage_memory(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, steps: Sequence[Sequence[Group]]
) -> float:
    """The bytes that one process needs on the device, for a model as the stage trains it and some of its steps.

    On a CPU with what Python and its packages take, and not less than reading the weights takes.
    """
    half = half_dtype(recipe)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    moments = 2 if stage.optim == "adamw_8bit" else 8
    # autocast keeps a copy of trained weights in its dtype
    state = weight_bytes(model, half) + trained * (4 + moments + (2 if half else 0))
    head: Any = model.lm_head.weight
    logits = _LOGIT * rows_at_once(head) * len(head)
    training = state + logits + _activations(stage, model, steps) * (_HALF if half else 1)
    if torch.cuda.is_available():
        return training
    return peak_memory() + max(training, 4 * sum(weight.numel() for weight in model.parameters()))


def _activations(stage: StageRecipe, model: LlavaForConditionalGeneration, steps: Sequence[Sequence[Group]]) -> float:
    """The bytes in float32 that the largest micro-batch's layers keep."""
    language: Any = model.model.language_model
    count = len(language.layers)
    again = round(stage.activation_checkpointing * (count - 1))  # layers that keep their input only
    parts = max(1, round(stage.batch_size / stage.micro_batch_size))
    rows = [(sum(one.length for one in step), sum(one.shared * len(one.samples) for one in step)) for step in steps]
    tokens, copied = (value / parts for value in max(rows))
    keys = 0 if torch.cuda.is_available() else copied * 2 * _widths(model)[2]  # of a shared beginning, for each branch
    kept = tokens * layer_floats(stage, model) + keys
    return 4 * ((count - again) * kept * _REST + again * tokens * _widths(model)[0])


def layer_floats(stage: StageRecipe, model: LlavaForConditionalGeneration) -> float:
    """The numbers for each token that a layer of the language model keeps."""
    width, queries, keys, inner = _widths(model)
    inputs = 2 * width + queries + inner  # of the matrices
    floats = 2.0 * width + 2 * queries + 2 * keys + 3 * inner
    if "language" in stage.trains:
        return floats + inputs + 2 * width  # a trained norm keeps its normalised input
    language: Any = model.model.language_model
    adapters = [part for part in language.layers[0].modules() if isinstance(part, LoraLayer)]
    if adapters:
        floats += inputs + sum(part.r["default"] for part in adapters)
        if stage.lora is None or stage.lora.dropout:
            floats += 4 / 3 * sum(int(part.in_features or 0) for part in adapters)  # what is left, and the mask
    return floats


def _widths(model: LlavaForConditionalGeneration) -> tuple[int, int, int, int]:
    """The width of a token's state, of its queries, of its keys, and of the MLP."""
    config: Any = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    return config.hidden_size, head * heads, head * groups, config.intermediate_size
