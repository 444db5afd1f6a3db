"""Frozen weights held in 16 bits where autocast reads them in 16 bits anyway: half of the memory, the same results.

Autocast gives every linear layer its weights rounded to its dtype (bfloat16, or float16), so those of a frozen layer
may be held so: no loss and no gradient changes by a bit. Norms, and everything that is trained, stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vistune.recipe.training import Recipe

_NF4_BITS = 4.127
"""Of a weight, with the scales of its block and of theirs (QLoRA, section 3)."""


def half_dtype(recipe: Recipe) -> torch.dtype | None:
    """The dtype of autocast in a recipe's precision; None in fp32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision)


def half_weights(model: LlavaForConditionalGeneration, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """The frozen weights of the language model and the vision tower, by name, that can be held in `dtype`.

    Word embeddings, which autocast leaves alone, are among them only if they are exact in it, as with models that were
    published in it; without weights (on the device `meta`) they never are. There are none while the language model is
    trained: the tower is small in comparison, and to restore it the whole base would have to be read again.
    """
    if model.lm_head.weight.requires_grad:
        return {}
    language: Any = model.model.language_model
    modules: list[Any] = [
        part for root in (language, model.lm_head, model.model.vision_tower) for part in root.modules()
    ]
    tables = {id(part.weight): part for part in modules if isinstance(part, nn.Embedding)}
    chosen: set[int] = set()
    for part in modules:
        frozen = type(part) is nn.Linear and not part.weight.requires_grad
        if frozen and ((table := tables.get(id(part.weight))) is None or _is_exact(table, dtype)):
            chosen.add(id(part.weight))
    words = language.get_input_embeddings()
    if not words.weight.requires_grad and _is_exact(words, dtype):
        chosen.add(id(words.weight))
    return {name: weight for name, weight in model.named_parameters() if id(weight) in chosen}


def _is_exact(table: nn.Embedding, dtype: torch.dtype) -> bool:
    """Whether its vectors are the same in `dtype`. A subclass may compute with them, as Gemma's does: it is not."""
    weight = table.weight.detach()
    if type(table) is not nn.Embedding or weight.is_meta:
        return False
    return all(torch.equal(rows, rows.to(dtype).to(rows.dtype)) for rows in weight.split(4096))


def hold_in_half(model: LlavaForConditionalGeneration, names: Collection[str], dtype: torch.dtype) -> None:
    """Round the weights of these names, in place; `restore_float32` has to come before they are saved."""
    for name in names:
        weight = model.get_parameter(name)
        weight.data = weight.data.to(dtype)


def restore_float32(
    model: LlavaForConditionalGeneration, open_base: Callable[[], LlavaForConditionalGeneration]
) -> None:
    """Undo `hold_in_half`, in place. `open_base` reads the same model before its training, only if that is needed."""
    rounded = [
        (name, weight)
        for name, weight in model.named_parameters()
        if weight.dtype in (torch.bfloat16, torch.float16) and not weight.requires_grad
    ]
    for _, weight in rounded:
        weight.data = weight.data.new_empty(0)  # before the base needs memory
    base = open_base() if rounded else model
    for name, weight in rounded:
        weight.data = base.get_parameter(name.replace(".base_layer.", ".")).data  # a layer with an adapter


def weight_bytes(model: LlavaForConditionalGeneration, dtype: torch.dtype | None) -> float:
    """The memory of the model's weights while it trains, in bytes; `dtype` is that of autocast."""
    half = {id(weight) for weight in half_weights(model, dtype).values()} if dtype else set()
    return sum(weight.numel() * _bytes_each(weight, id(weight) in half) for weight in model.parameters())


def _bytes_each(weight: Tensor, half: bool) -> float:
    if getattr(weight, "quant_type", None) == "nf4":
        return _NF4_BITS / 8
    return 2 if half else 4
