"""LoRA: what it computes, how it is kept, what PEFT makes of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from vistune.cli import main
from vistune.errors import CheckpointError, MissingPackageError, RecipeError
from vistune.model.adapter_checkpoint import Backbones, open_checkpoint, save_adapter_checkpoint
from vistune.model.adapters import add_lora, lora_layers, lora_parts, merge_lora
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import load_checkpoint, published_weights, save_checkpoint
from vistune.recipe.training import LoraRecipe, ModelRecipe

RANK_4 = LoraRecipe(rank=4, alpha=16, dropout=0)


@pytest.fixture
def base(backbones: Path) -> Backbones:
    recipe = {"vision_tower": str(backbones / "vision"), "language_model": str(backbones / "language")}
    return Backbones(ModelRecipe.model_validate({**recipe, "projector": "linear"}), seed=3)


def _logits(model: Any) -> Tensor:
    ids = torch.tensor([[model.config.image_token_id] * 4 + [7, 8, 9]])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, pixel_values=pixels).logits
    return logits


def _train(model: Any) -> None:
    """Give the adapters and the projector weights as if they had been trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in [*lora_parts(model), model.model.multi_modal_projector]:
            for weight in part.parameters():
                weight += 0.1 * torch.randn(weight.shape, generator=generator)


def test_new_adapters_change_nothing_and_depend_on_the_seed_alone(base: Backbones) -> None:
    model, _ = base.assemble()
    before = _logits(model)
    add_lora(model, RANK_4, seed=5)
    assert torch.equal(_logits(model), before)
    assert len(lora_layers(model)) == 2 * 7  # every linear layer of two Llama layers, not the head
    again, _ = base.assemble()
    torch.rand(3)
    add_lora(again, RANK_4, seed=5)
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_merged_they_compute_the_same_and_are_gone(base: Backbones) -> None:
    model, _ = base.assemble()
    names = list(model.state_dict())
    before = _logits(model)
    add_lora(model, RANK_4, seed=0)
    _train(model)
    expected = _logits(model)
    assert (expected - before).abs().max() > 0.1
    merge_lora(model)
    torch.testing.assert_close(_logits(model), expected, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
    assert all(name.startswith(("vision_tower.", "language_model.", "multi_")) for name in published_weights(model))


def test_targets_are_names_of_linear_layers(base: Backbones) -> None:
    model, _ = base.assemble()
    add_lora(model, RANK_4.model_copy(update={"targets": ["q_proj", "v_proj"]}), seed=0)
    assert len(lora_layers(model)) == 2 * 2
    with pytest.raises(RecipeError, match=r"no linear layers of the name 'k_pro'\n  fix: did you mean 'k_proj'"):
        add_lora(base.assemble()[0], RANK_4.model_copy(update={"targets": ["k_pro"]}), seed=0)


@pytest.fixture
def adapter(base: Backbones, tmp_path: Path) -> tuple[Path, Tensor]:
    """A folder of adapters on a checkpoint beside it, and what the trained model computes."""
    model, processor = base.assemble()
    save_checkpoint(model, processor, tmp_path / "run" / "align")
    add_lora(model, RANK_4, seed=0)
    _train(model)
    save_adapter_checkpoint(model, tmp_path / "run" / "tune" / "adapter", tmp_path / "run" / "align")
    return tmp_path / "run" / "tune" / "adapter", _logits(model)


def test_peft_loads_the_adapters_on_their_base(adapter: tuple[Path, Tensor]) -> None:
    folder, expected = adapter
    plain = LlavaForConditionalGeneration.from_pretrained(folder.parent.parent / "align")
    model = PeftModel.from_pretrained(plain, folder)
    torch.testing.assert_close(_logits(model), expected, atol=1e-4, rtol=1e-4)
    auto = AutoPeftModel.from_pretrained(folder)  # finds the base by its name
    torch.testing.assert_close(_logits(auto), expected, atol=1e-4, rtol=1e-4)
    assert json.loads((folder / "base.json").read_text())["checkpoint"] == "../../align"  # both may be moved


def test_an_adapter_folder_is_loaded_with_its_base(adapter: tuple[Path, Tensor], tmp_path: Path) -> None:
    folder, expected = adapter
    torch.testing.assert_close(_logits(Assistant.load(folder, "cpu").model), expected, atol=1e-4, rtol=1e-4)
    model, _ = open_checkpoint(folder, one_layer=True)
    torch.testing.assert_close(_logits(model), expected, atol=1e-4, rtol=1e-4)
    assert type(model.model.multi_modal_projector).__name__ == "LinearProjector"
    named = (folder / "base.json").rename(tmp_path / "base.json")  # without it, as PEFT itself writes adapters
    torch.testing.assert_close(_logits(open_checkpoint(folder)[0]), expected, atol=1e-4, rtol=1e-4)
    named.rename(folder / "base.json")
    moved = (tmp_path / "run").rename(tmp_path / "moved") / "tune" / "adapter"
    torch.testing.assert_close(_logits(open_checkpoint(moved)[0]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lora", [False, True])
def test_what_began_with_the_backbones_needs_them_only(base: Backbones, lora: bool, tmp_path: Path) -> None:
    model, _ = base.assemble()
    if lora:
        add_lora(model, RANK_4, seed=0)
    _train(model)
    save_adapter_checkpoint(model, tmp_path / "light", base)
    again, _ = open_checkpoint(tmp_path / "light", one_layer=True)
    torch.testing.assert_close(_logits(again), _logits(model), atol=1e-4, rtol=1e-4)
    weights = again.model.multi_modal_projector.state_dict()
    for name, weight in model.model.multi_modal_projector.state_dict().items():
        assert torch.equal(weights[name], weight)
    merge_lora(model)
    assert main(["merge", str(tmp_path / "light"), "--out", str(tmp_path / "full")]) == 0
    assert main(["merge", str(tmp_path / "light"), "--out", str(tmp_path / "full")]) == 2  # there is one already
    full, _ = load_checkpoint(tmp_path / "full")
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, msg=name)
    torch.testing.assert_close(_logits(full), _logits(model), atol=1e-4, rtol=1e-4)
    assert sum(file.stat().st_size for file in (tmp_path / "light").iterdir()) < 80_000


def test_what_is_missing_is_named(adapter: tuple[Path, Tensor]) -> None:
    folder, _ = adapter
    (folder / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"adapter: does not fit its base"):
        open_checkpoint(folder)
    (folder.parent.parent / "align").rename(folder.parent.parent / "elsewhere")
    with pytest.raises(CheckpointError, match=r"its base ../../align is missing\n  fix: .*base.json"):
        open_checkpoint(folder)
    (folder / "base.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"base.json: does not name its base"):
        open_checkpoint(folder)


def test_quantised_layers_come_back_as_what_was_trained(base: Backbones) -> None:
    pytest.importorskip("bitsandbytes", reason="an extra")
    model, _ = base.assemble()
    before = _logits(model)
    add_lora(model, RANK_4.model_copy(update={"quantize": "nf4", "targets": ["q_proj"]}), seed=0)
    model.to("cpu")
    linear = [part for part in model.model.language_model.modules() if isinstance(part, torch.nn.Linear)]
    assert {str(part.weight.dtype) for part in linear} == {"torch.uint8", "torch.float32"}  # the adapters' are not
    _train(model)
    expected = _logits(model)
    assert (expected - before).abs().max() > 1e-3
    merge_lora(model)
    torch.testing.assert_close(_logits(model), expected, atol=1e-4, rtol=1e-4)
    assert {weight.dtype for weight in published_weights(model).values()} == {torch.float32}


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is there")
def test_without_bitsandbytes_the_error_says_what_to_install(base: Backbones) -> None:
    with pytest.raises(MissingPackageError, match=r"pip install 'vistune\[qlora\]'"):
        add_lora(base.assemble()[0], RANK_4.model_copy(update={"quantize": "nf4"}), seed=0)
