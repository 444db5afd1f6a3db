"""Frozen weights held in bfloat16 where the passes read them in bfloat16 anyway: half of the memory, the same numbers.

Autocast gives every linear layer its weights rounded to bfloat16, so those of a frozen layer may be held so: no loss
and no gradient changes by a bit. Norms, and everything that is trained, stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

_NF4_BITS = 4.127
"""A weight's, with the scales of its block and of theirs (QLoRA, section 3)."""


def held_half(model: LlavaForConditionalGeneration) -> list[nn.Parameter]:
    """The frozen weights of the language model and the vision tower that can be held in bfloat16.

    Word embeddings, which autocast leaves alone, are among them only if bfloat16 has all their numbers exactly, as with
    models that were published in it; without weights (on the device `meta`) they never are. None are while the language
    model is trained: the tower is small beside it, and to restore it the whole base would have to be read again.
    """
    if model.lm_head.weight.requires_grad:
        return []
    language: Any = model.model.language_model
    parts: list[Any] = [part for root in (language, model.lm_head, model.model.vision_tower) for part in root.modules()]
    tables = {id(part.weight): part for part in parts if isinstance(part, nn.Embedding)}
    chosen: dict[int, Any] = {}  # a weight that two modules share comes once
    for part in parts:
        frozen = type(part) is nn.Linear and not part.weight.requires_grad
        if frozen and ((table := tables.get(id(part.weight))) is None or _is_exact(table)):
            chosen[id(part.weight)] = part.weight
    words = language.get_input_embeddings()
    if not words.weight.requires_grad and _is_exact(words):
        chosen[id(words.weight)] = words.weight
    return list(chosen.values())


def _is_exact(table: nn.Embedding) -> bool:
    """Whether its vectors are the same in bfloat16. A subclass may compute with them, as Gemma's does: it is not."""
    weight = table.weight.detach()
    if type(table) is not nn.Embedding or weight.is_meta:
        return False
    return all(torch.equal(rows, rows.bfloat16().to(rows.dtype)) for rows in weight.split(4096))


def hold_half(model: LlavaForConditionalGeneration) -> None:
    """Round them, in place. What is saved of them has to be brought back by `restore`."""
    for weight in held_half(model):
        weight.data = weight.data.bfloat16()
    words: Any = model.get_input_embeddings()
    if _is_rounded(words.weight):  # the states that the layers add to stay in float32
        words.register_forward_hook(lambda _, __, states: states.float())


def is_held_half(model: LlavaForConditionalGeneration) -> bool:
    """Whether any weight is."""
    return any(_is_rounded(weight) for weight in model.parameters())


def restore(model: LlavaForConditionalGeneration, base: LlavaForConditionalGeneration) -> None:
    """Give the model the unrounded weights of `base`, which it was before its training, in place."""
    for name, weight in model.named_parameters():
        if _is_rounded(weight):
            weight.data = base.get_parameter(name.replace(".base_layer.", ".")).data  # beside an adapter


def _is_rounded(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16 and not weight.requires_grad


def weight_bytes(model: LlavaForConditionalGeneration, *, bf16: bool) -> float:
    """What the model's weights take while they train, in bytes."""
    half = {id(weight) for weight in held_half(model)} if bf16 else set()
    return sum(weight.numel() * _size(weight, id(weight) in half) for weight in model.parameters())


def _size(weight: Tensor, half: bool) -> float:
    if getattr(weight, "quant_type", None) == "nf4":
        return _NF4_BITS / 8
    return 2 if half else 4
