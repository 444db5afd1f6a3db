"""The plan's memory beside what autograd saves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vistune.data.collate import Segment
from vistune.model.adapters import add_lora
from vistune.model.shared_prefix import Layout, use_shared_prefix
from vistune.recipe.training import StageRecipe
from vistune.train.memory import layer_bytes
from vistune.train.stages import freeze

STAGE = {
    "name": "s", "data": "d", "epochs": 1, "batch_size": 1, "micro_batch_size": 1, "learning_rate": 1.0
}  # fmt: skip
LORA = {"rank": 16, "alpha": 16}
STAGES = [
    {"trains": ["projector"]},
    {"trains": ["projector", "language"]},
    {"trains": ["projector", "lora"], "lora": {**LORA, "dropout": 0}},
    {"trains": ["projector", "lora"], "lora": {**LORA, "dropout": 0.1}},
]
TOKENS = 300


def _saved(stage: StageRecipe, layers: int, tokens: int, narrow: int) -> tuple[int, Any]:
    """The bytes that the language model saves for the backward pass of a row, but for weights; and the model."""
    text = LlamaConfig(
        hidden_size=128, intermediate_size=352, num_hidden_layers=layers, num_attention_heads=4, vocab_size=64,
        num_key_value_heads=4,  # torch 2.7 has no CPU kernel for fewer: it keeps all scores
    )  # fmt: skip
    tower = {"model_type": "clip_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16}  # fmt: skip
    model: Any = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=tower, image_token_index=1))
    if stage.lora:
        add_lora(model, stage.lora, 0)
    freeze(model, stage.trains)
    language = model.model.language_model
    use_shared_prefix(language)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    positions = torch.arange(tokens)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=narrow == 2)
    with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        language(
            inputs_embeds=torch.randn(1, tokens, 128, requires_grad=True), position_ids=positions[None],
            use_cache=False, layout=Layout((Segment(0, (tokens,)),), positions),
        )  # fmt: skip
    return sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights), model


@pytest.mark.parametrize("changes", STAGES, ids=["projector", "language", "lora", "lora with dropout"])
@pytest.mark.parametrize("narrow", [4, 2], ids=["float32", "bfloat16"])
def test_a_layer_keeps_what_autograd_saves(changes: dict[str, Any], narrow: int) -> None:
    stage = StageRecipe.model_validate({**STAGE, **changes})
    growth = []
    for tokens in (TOKENS, 2 * TOKENS):  # what does not grow with the tokens are weights as autocast reads them
        (two, _), (three, model) = (_saved(stage, layers, tokens, narrow) for layers in (2, 3))
        growth.append(three - two)
    assert TOKENS * sum(layer_bytes(stage, model, narrow)) == pytest.approx(growth[1] - growth[0], rel=0.04)
