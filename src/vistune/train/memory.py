"""The peak memory of a stage's tensors, from the shapes of its model and data.

It is that of a step from the second on, when the backward pass begins: weights, gradients and moments, the images of
this batch and of the next one, what layers keep for the backward pass, and the logits or the first gradients. What is
kept is counted by tensor; a test compares it with what autograd saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import LlavaForConditionalGeneration

from vistune.data.groups import Group
from vistune.model.backbones import resolve
from vistune.model.last_layer import row_wise_parts
from vistune.model.linear_cross_entropy import rows_at_once
from vistune.model.vision import used_blocks
from vistune.recipe.training import Recipe, StageRecipe
from vistune.train.flops import Work, our_work
from vistune.train.frozen_half import half_dtype, weight_bytes

_NORM = 6
"""Gradients of a token's state that a norm's backward pass has at a time, in float32."""


def stage_memory(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, steps: Sequence[Sequence[Group]]
) -> float:
    """The bytes of tensors that one process needs on the device, for a model as the stage trains it and some steps.

    On a CPU not less than reading the weights takes.
    """
    half = half_dtype(recipe)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    moments = 2 if stage.optim == "adamw_8bit" else 8
    # autocast keeps a copy of trained weights in its dtype
    state = weight_bytes(model, half) + trained * (4 + moments + (2 if half else 0))
    parts = max(1, round(stage.batch_size / stage.micro_batch_size))
    largest = max(steps, key=lambda step: sum(one.length for one in step))
    batch = _Batch(our_work(largest), sum(one.shared * len(one.samples) for one in largest), parts)
    narrow = 2 if half else 4
    width: int = model.config.get_text_config().hidden_size
    once = max(_logits(model, batch, narrow), _NORM * batch.tokens * width * 4)  # one is gone when the other comes
    training = state + once + _images(stage, model, batch) + _kept(stage, model, batch, narrow)
    if torch.cuda.is_available():
        return training
    return max(training, 4 * sum(weight.numel() for weight in model.parameters()) + _mapped(recipe, stage))


def _mapped(recipe: Recipe, stage: StageRecipe) -> int:
    """The bytes of a GGUF file, which is in memory while its weights are dequantised."""
    name = recipe.model.language_model if recipe.model and stage is recipe.stages[0] else ""
    return Path(resolve(name, "language")).stat().st_size if name.endswith(".gguf") else 0


class _Batch:
    """The amounts of a micro-batch, one of `parts` of a step."""

    def __init__(self, work: Work, copied: int, parts: int) -> None:
        self.crops, self.features = work.crops / parts, work.features / parts
        self.tokens, self.targets = work.tokens / parts, work.logits / parts
        self.copied = copied / parts
        """Tokens of shared beginnings, once for each branch."""


def _logits(model: LlavaForConditionalGeneration, batch: _Batch, narrow: int) -> float:
    """The logits in memory at a time: as they are computed, in float32 and as gradients; in float32 these are one."""
    head: Any = model.lm_head.weight
    width = 4 if narrow == 4 else narrow + 4 + narrow
    cap = 8 if getattr(model.config.get_text_config(), "final_logit_softcapping", None) else 0
    size: float = (width + cap) * min(batch.targets, rows_at_once(head)) * len(head)
    return size


def _images(stage: StageRecipe, model: LlavaForConditionalGeneration, batch: _Batch) -> float:
    """The pixels of this batch and of the next one, and what the projector and a trained tower keep."""
    vision: Any = model.config.vision_config
    pixels = 2 * batch.crops * 3 * vision.image_size**2
    width = model.config.get_text_config().hidden_size
    projected = batch.features * (vision.hidden_size + 3 * width)  # its input, two layers' outputs, their order
    tower = 0.0
    if "vision" in stage.trains:
        # the inputs of norms and their results, queries, keys, values and their sum; GELU's input and output
        each = 10 * vision.hidden_size + 4 * vision.intermediate_size
        layers = min(stage.vision_layers or used_blocks(model), used_blocks(model))
        tower = batch.features * layers * each
    size: float = 4 * (pixels + projected + tower)
    return size


def _kept(stage: StageRecipe, model: LlavaForConditionalGeneration, batch: _Batch, narrow: int) -> float:
    """What the language model's layers keep."""
    language: Any = model.model.language_model
    width, _, keys, _ = _widths(model)
    count = len(language.layers)
    again = round(stage.activation_checkpointing * (count - 1))  # layers that keep their input only
    copies = 0 if torch.cuda.is_available() else batch.copied * 2 * keys * narrow
    every, row_wise = layer_bytes(stage, model, narrow)
    whole = (count - again - 1) * (batch.tokens * (every + row_wise) + copies)
    last = batch.tokens * every + batch.targets * row_wise + copies
    inputs = (again + 1) * batch.tokens * width * 4  # and that of the last norm
    return whole + last + inputs


def layer_bytes(stage: StageRecipe, model: LlavaForConditionalGeneration, narrow: int) -> tuple[float, float]:
    """The bytes for each token that a layer of the language model keeps: of every token, and of those that go through
    the row-wise parts, which in the last layer are those that predict.

    `narrow` is the size of a number in the products: 2 under autocast. Norms compute in float32.
    """
    width, queries, keys, inner = _widths(model)
    language: Any = model.model.language_model
    every, row_wise = 4 * 2 * width + narrow * (2 * queries + 2 * keys), narrow * 3.0 * inner
    shared = narrow == 4  # autocast casts the input once for each matrix
    inputs = narrow * width * (1 if shared else 3), narrow * (queries + inner + width * (1 if shared else 2))
    if "language" in stage.trains:
        return every + inputs[0] + 4 * 2 * width, row_wise + inputs[1]  # a trained norm keeps its normalised input
    parts = {id(one) for part in row_wise_parts(language.layers[0]) for one in part.modules()}
    adapters = [part for part in language.layers[0].modules() if isinstance(part, LoraLayer)]
    mask = 1 if torch.cuda.is_available() else 4
    dropout = any(not isinstance(one, nn.Identity) for part in adapters for one in part.lora_dropout.values())
    if adapters and not dropout:
        every, row_wise = every + inputs[0], row_wise + inputs[1]
    for adapter in adapters:
        kept = narrow * adapter.r["default"] + dropout * (narrow + mask) * int(adapter.in_features or 0)
        every, row_wise = (every, row_wise + kept) if id(adapter) in parts else (every + kept, row_wise)
    return every, row_wise


def _widths(model: LlavaForConditionalGeneration) -> tuple[int, int, int, int]:
    """The width of a token's state, of its queries, of its keys, and of the MLP."""
    config: Any = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    return config.hidden_size, head * heads, head * groups, config.intermediate_size
