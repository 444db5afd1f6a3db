"""Frozen weights held in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vistune.data.collate import collate
from vistune.data.dataset import open_sources
from vistune.data.encode import Encoder
from vistune.data.groups import make_groups
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageStore, read_image
from vistune.model.adapter_checkpoint import open_checkpoint, starting_point
from vistune.model.adapters import add_lora
from vistune.model.checkpoint import published_weights
from vistune.recipe.training import LoraRecipe, Part, Recipe
from vistune.train.frozen_half import half_weights, hold_in_half, restore_float32, weight_bytes
from vistune.train.run import train
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

LORA = {"rank": 4, "alpha": 16}


def _assembled(recipe: Recipe, trains: list[Part], *, exact_words: bool = False) -> tuple[Any, Any]:
    """The model as a stage trains it; `exact_words`: its word embeddings are numbers of bfloat16."""
    model, processor = starting_point(recipe).assemble()  # type: ignore[union-attr]
    if exact_words:
        words: Any = model.get_input_embeddings()
        words.weight.data = words.weight.data.bfloat16().float()
    if "lora" in trains:
        add_lora(model, LoraRecipe(rank=4, alpha=16, dropout=0), 0)
    freeze(model, trains)
    return model, processor


def _hold(model: Any) -> None:
    hold_in_half(model, half_weights(model, torch.bfloat16), torch.bfloat16)


@pytest.mark.parametrize("trains", [["projector"], ["projector", "lora"], ["projector", "vision"]])
@pytest.mark.parametrize("exact_words", [False, True])
def test_loss_and_gradients_are_the_same_bit_for_bit(make_recipe: Any, trains: list[Part], exact_words: bool) -> None:
    recipe = make_recipe()
    found = []
    for half in (False, True):
        model, processor = _assembled(recipe, trains, exact_words=exact_words)
        if half:
            _hold(model)
            layer = model.model.language_model.layers[0]
            assert layer.input_layernorm.weight.dtype == torch.float32
            assert getattr(layer.mlp.up_proj, "base_layer", layer.mlp.up_proj).weight.dtype == torch.bfloat16
            dtype = torch.bfloat16 if exact_words else torch.float32
            assert model.get_input_embeddings().weight.dtype == dtype
        (conversations,) = open_sources(recipe.stages[1].sources())
        encoder = Encoder(processor.tokenizer, processor.chat_template, ImageGrid(4))
        samples = [encoder.encode(conversation, 500) for conversation in conversations]
        images = ImageStore(lambda name: read_image(Path(name)), processor.image_processor)
        with torch.autocast("cpu", torch.bfloat16):
            loss = TargetLoss(model)(collate(make_groups(samples), images.get))
        loss.backward()
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        assert all(weight.dtype == torch.float32 for weight in trained.values())
        found.append({"loss": loss.detach()} | {name: weight.grad for name, weight in trained.items()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_was_frozen_comes_back_unrounded(make_recipe: Any) -> None:
    recipe = make_recipe()
    base, _ = _assembled(recipe, ["projector"])
    model, _ = _assembled(recipe, ["projector", "lora"])
    _hold(model)
    restore_float32(model, lambda: base)
    weights = {name.replace(".base_layer.", "."): weight for name, weight in model.named_parameters()}
    assert all(torch.equal(weights[name], weight) for name, weight in base.named_parameters())


def test_nothing_is_rounded_where_the_language_model_is_trained(make_recipe: Any) -> None:
    assert not half_weights(_assembled(make_recipe(), ["projector", "language"])[0], torch.bfloat16)


def _bf16(make_recipe: Any, **changes: Any) -> Recipe:
    """Alignment and adapters in bf16."""
    content = make_recipe().model_dump() | {"precision": "bf16", **changes}
    content["stages"][1] |= {"trains": ["projector", "lora"], "lora": LORA}
    return Recipe.model_validate(content)


def test_checkpoints_lose_nothing_and_an_interrupted_run_ends_with_them(
    make_recipe: Any, kill: Any, tmp_path: Path
) -> None:
    recipe = _bf16(make_recipe)
    tune = train(recipe, tmp_path / "whole")
    base = published_weights(starting_point(recipe).assemble()[0])  # type: ignore[union-attr]
    aligned, tuned = (load_file(tmp_path / "whole" / name / "model.safetensors") for name in ("align", "tune"))
    frozen = [name for name in base if not name.startswith("multi_modal_projector")]
    assert all(torch.equal(aligned[name], base[name]) for name in frozen)
    adapted = {name for name in frozen if not torch.equal(tuned[name], base[name])}
    assert {name.split(".")[-3] for name in adapted} == {"mlp", "self_attn"}
    separate, _ = open_checkpoint(tune / "adapter")  # PEFT's merge into the base's own numbers
    for name, weight in published_weights(separate).items():
        torch.testing.assert_close(weight, tuned[name], atol=1e-6, rtol=1e-6)
    for last in ("align/state/step-00000008", "tune/state/step-00000008", "tune/config.json"):
        kill(recipe, tmp_path / "killed", last).join()
    again = train(recipe, tmp_path / "killed")
    assert (again / "model.safetensors").read_bytes() == (tune / "model.safetensors").read_bytes()


def test_a_whole_checkpoint_is_of_the_recipes_save_dtype(make_recipe: Any, tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        recipe = _bf16(lambda: make_recipe(epochs=0.4), save_dtype=dtype)
        weights = load_file(train(recipe, tmp_path / dtype) / "model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {getattr(torch, dtype)}


def test_what_is_held_is_counted(make_recipe: Any) -> None:
    recipe = _bf16(make_recipe)
    model, _ = _assembled(recipe, ["projector"])
    _hold(model)
    held = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    assert (
        held
        == weight_bytes(model, torch.bfloat16)
        == weight_bytes(_assembled(recipe, ["projector"])[0], torch.bfloat16)
    )
