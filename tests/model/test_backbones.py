"""Towers and language models out of larger models, towers at another image size, what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaForConditionalGeneration,
)

from assembling import assemble
from vistune.errors import CheckpointError
from vistune.model.backbones import load_language, load_vision
from vistune.model.checkpoint import save_checkpoint
from vistune.model.vision import at_image_size, image_grid

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
         "initializer_range": 0.2}  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 3,
        "pad_token_id": 4}  # fmt: skip


def _save(model: Any, folder: Path, beside: Path) -> Path:
    """The model with what else is in the folder `beside`."""
    shutil.copytree(beside, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_of_a_model_of_images_and_texts_the_tower_is_read(family: str, backbones: Path, tmp_path: Path) -> None:
    words = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "max_position_embeddings": 8}
    small = {**TOWER, "intermediate_size": 32}
    config = AutoConfig.for_model(family, text_config={**small, **words}, vision_config=small)
    whole = AutoModel.from_config(config).eval()
    tower, _ = load_vision(str(_save(whole, tmp_path / family, backbones / "vision")))
    assert tower.config.model_type == f"{family}_vision_model"
    pixels = torch.randn(1, 3, 28, 28)
    assert torch.equal(tower(pixels).last_hidden_state, whole.vision_model(pixels).last_hidden_state)


@pytest.mark.parametrize(("family", "text"), [("gemma3", "gemma3_text"), ("mistral3", "mistral"), ("llava", "llama")])
def test_of_a_model_that_sees_the_language_model_is_read(
    family: str, text: str, backbones: Path, tmp_path: Path
) -> None:
    tower = AutoConfig.for_model("siglip_vision_model", **TOWER, intermediate_size=32)
    vision = {"vision_config": tower if family != "mistral3" else {"model_type": "pixtral", **TOWER}}
    words = AutoConfig.for_model(text, **TEXT, vocab_size=400)  # more rows than the tokenizer has tokens
    config = AutoConfig.for_model(family, text_config=words, **vision, mm_tokens_per_image=4, image_token_index=399)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    language, tokenizer = load_language(str(_save(whole, tmp_path / family, backbones / "language")))
    ids = torch.randint(5, 300, (1, 9))
    assert torch.equal(language(ids).logits, whole(input_ids=ids).logits)
    assert type(language) is type(AutoModelForCausalLM.from_config(words))
    model, processor = assemble(str(backbones / "vision"), str(tmp_path / family), projector="linear")
    assert len(processor.tokenizer) == len(tokenizer) + 1
    assert model.lm_head.weight.shape[0] == model.config.text_config.vocab_size == 400  # there was room


@pytest.mark.parametrize("family", ["clip_vision_model", "siglip_vision_model", "dinov2", "dinov2_with_registers"])
def test_a_tower_at_another_size_is_transformers_interpolation(family: str) -> None:
    torch.manual_seed(0)
    tower = AutoModel.from_config(AutoConfig.for_model(family, **TOWER)).eval()
    pixels = torch.randn(2, 3, 70, 70)
    options = {} if family.startswith("dino") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = tower(pixels, **options).last_hidden_state
        assert torch.equal(at_image_size(tower, 70).eval()(pixels).last_hidden_state, expected)
    assert tower.config.image_size == 28


@pytest.mark.parametrize(("family", "tokens"), [("clip_vision_model", 9), ("dinov3_vit", 9 + 4)])
def test_an_assistant_at_another_size_is_saved_with_it(
    family: str, tokens: int, backbones: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    tower = AutoModel.from_config(AutoConfig.for_model(family, **TOWER, num_register_tokens=4))
    parts = str(_save(tower, tmp_path / "tower", backbones / "vision")), str(backbones / "language")
    model, processor = assemble(*parts, projector="linear", image_size=45)  # three patches and a rest
    assert image_grid(model.config).features == tokens
    save_checkpoint(model, processor, tmp_path / "run")
    again: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "run")
    assert again.config.image_seq_length == tokens
    pixels = torch.randn(1, 3, 45, 45)
    with torch.no_grad():
        features = [one.get_image_features(pixels, return_dict=True).pooler_output[0] for one in (model, again)]
    assert features[0].shape == (tokens, 32)
    torch.testing.assert_close(features[1], features[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(CheckpointError, match="image_size 13: the vision tower's patches have 14 pixels"):
        assemble(*parts, projector="linear", image_size=13)


def test_a_projectors_outputs_begin_as_large_as_the_words_that_enter(backbones: Path, tmp_path: Path) -> None:
    """Gemma multiplies its word embeddings, but not the image's."""
    tokenizer = AutoTokenizer.from_pretrained(backbones / "language")
    config = AutoConfig.for_model("gemma3_text", **TEXT, vocab_size=len(tokenizer))
    _save(AutoModelForCausalLM.from_config(config), tmp_path / "gemma", backbones / "language")
    model, _ = assemble(str(backbones / "vision"), str(tmp_path / "gemma"), projector="linear")
    features = torch.randn(1, 500, 16)
    words = model.get_input_embeddings()(torch.arange(300))
    projected = model.model.multi_modal_projector(features)
    assert (projected.square().mean() / words.square().mean()).sqrt().item() == pytest.approx(1, rel=0.2)


def test_what_cannot_be_used_is_one_clear_error(backbones: Path, tmp_path: Path) -> None:
    def changed(name: str, file: str, **changes: Any) -> str:
        folder = shutil.copytree(backbones / "vision", tmp_path / name)
        content = json.loads((folder / file).read_text())
        content = {key: value for key, value in {**content, **changes}.items() if value is not None}
        (folder / file).write_text(json.dumps(content))
        return str(folder)

    with pytest.raises(CheckpointError, match=r"its image processor has no image_std\n  fix: .*preprocessor_config"):
        load_vision(changed("no-std", "preprocessor_config.json", image_std=None))
    with pytest.raises(CheckpointError, match=r"family 'siglip2' is not supported\n  fix: .*fixed resolution, not NaF"):
        load_vision(changed("naflex", "config.json", model_type="siglip2"))
    half = changed("half", "config.json")
    weights = load_file(f"{half}/model.safetensors")
    lost = next(name for name in weights if "layers.1" in name)
    save_file({name: weight for name, weight in weights.items() if name != lost}, f"{half}/model.safetensors")
    with pytest.raises(CheckpointError, match=r"half: its weights are not the model's: .*layers\.1"):
        load_vision(half)
    Path(half, "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="half: cannot be read as a model"):
        load_vision(half)
