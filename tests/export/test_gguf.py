"""GGUF files: the weights, logits and tokens of the checkpoint, and what llama.cpp would run wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from assembling import assemble
from vistune.cli import main
from vistune.data.chat_template import checkpoint_template, render
from vistune.export.gguf_tokenizer import exported_template
from vistune.export.text_gguf import text_obstacles
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.backbones import load_language
from vistune.model.checkpoint import save_checkpoint

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "initializer_range": 0.2,
    "bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 4, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}  # fmt: skip
GEMMA = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
         "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "qwen2": {"rope_parameters": YARN, "tie_word_embeddings": True, "head_dim": 16},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 3, "num_hidden_layers": 6, "rope_parameters": GEMMA, "head_dim": 256},
}
SPM = "narrow"
Build = Callable[..., Path]


@pytest.fixture
def build(backbones: Path, tmp_path: Path) -> Build:
    """Saves a checkpoint of small random parts."""

    def save(
        family: str = "llama", tower: str = "clip", tokenizer: str = "language", act: str | None = None,
        vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **keys: Any,
    ) -> Path:  # fmt: skip
        words = AutoTokenizer.from_pretrained(backbones / tokenizer)
        changes = {**SMALL, **FAMILIES[family], "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
        config = AutoConfig.for_model(family, **{**changes, "vocab_size": len(words), **(text or {})})
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "text")
        words.save_pretrained(tmp_path / "text")
        _tower(tower, act, vision or {}).save_pretrained(tmp_path / "tower")
        _image_settings(tower, backbones, tmp_path / "tower")
        parts = assemble(str(tmp_path / "tower"), str(tmp_path / "text"), **{"projector": "mlp2x_gelu", **keys})
        save_checkpoint(*parts, tmp_path / "checkpoint")
        return tmp_path / "checkpoint"

    return save


def _tower(kind: str, act: str | None, changes: dict[str, Any]) -> Any:
    size = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14, **({"hidden_act": act} if act else {}), **changes}  # fmt: skip
    if kind == "clip":
        return CLIPVisionModel(CLIPVisionConfig(**size))
    return SiglipVisionModel(SiglipVisionConfig(**size)) if kind == "siglip" else Dinov2Model(Dinov2Config(**size))


def _image_settings(kind: str, backbones: Path, folder: Path) -> None:
    if kind == "siglip":
        SiglipImageProcessorPil(size={"height": 28, "width": 28}, resample=3).save_pretrained(folder)
    else:
        settings = (backbones / "vision" / "preprocessor_config.json").read_text()
        (folder / "preprocessor_config.json").write_text(settings)


def export(checkpoint: Path, *options: str) -> tuple[Path, Path]:
    out = checkpoint.parent / "gguf"
    assert main(["export", str(checkpoint), "--to", "gguf", "--out", str(out), *options]) == 0
    text, vision = sorted(out.glob("*.gguf"), key=lambda file: file.name.startswith("mmproj"))
    return text, vision


def tensors(path: Path) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(path)
    return {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}


def values(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_model_has_the_logits_and_tokens_of_the_checkpoint(family: str, build: Build) -> None:
    checkpoint = build(family)
    text, _ = export(checkpoint, "--dtype", "f32")
    model, processor = open_checkpoint(checkpoint)
    read, tokenizer = load_language(str(text))
    ids = torch.randint(len(processor.tokenizer), (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.lm_head(model.model.language_model(ids).last_hidden_state)
        torch.testing.assert_close(read(ids).logits, expected, atol=1e-4, rtol=1e-4)
    sentence = "<s><|user|>\n<image>\nhow many dogs, é犬  12?<|end|>\n"
    assert tokenizer(sentence)["input_ids"] == processor.tokenizer(sentence)["input_ids"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == (processor.tokenizer.bos_token, processor.tokenizer.eos_token)


@pytest.mark.parametrize(("dtype", "distance"), [("f16", 2e-3), ("q8_0", 2e-2)])
def test_values_come_back_within_the_precision(dtype: str, distance: float, build: Build) -> None:
    checkpoint = build("llama", text={"tie_word_embeddings": True, "hidden_size": 64})
    text, vision = export(checkpoint, "--dtype", dtype)
    model, _ = open_checkpoint(checkpoint)
    stored = tensors(text)
    assert "output.weight" not in stored  # tied
    down = model.model.language_model.layers[1].mlp.down_proj.weight.detach().numpy()
    np.testing.assert_allclose(stored["blk.1.ffn_down.weight"], down, atol=distance)
    first = model.model.multi_modal_projector.linear_1.weight.detach().numpy()
    np.testing.assert_allclose(tensors(vision)["mm.0.weight"][:, : first.shape[1]], first, atol=distance)
    assert values(text)["general.file_type"] == {"f16": 1, "q8_0": 7}[dtype]
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(vision).tensors}
    assert kinds["v.position_embd.weight"] == kinds["v.blk.0.ln1.weight"] == "F32"
    assert kinds["v.patch_embd.weight"] == "F16"


def test_sentencepiece_keeps_ids_kinds_and_the_order_of_merges(build: Build) -> None:
    checkpoint = build("llama", tokenizer=SPM, chat_template="vicuna_v1")
    text, _ = export(checkpoint)
    _, processor = open_checkpoint(checkpoint)
    keys = values(text)
    tokens = keys["tokenizer.ggml.tokens"]
    kinds = dict(zip(tokens, keys["tokenizer.ggml.token_type"], strict=True))
    known = len(processor.tokenizer)
    assert tokens[:known] == processor.tokenizer.convert_ids_to_tokens(range(known))
    assert tokens[known:] == [f"[PAD{number}]" for number in range(known, len(tokens))]  # rows up to a multiple of 64
    assert (kinds["<unk>"], kinds["<s>"], kinds["<image>"], kinds["<0x41>"], kinds["▁dogs"]) == (2, 3, 3, 6, 1)
    scores = dict(zip(tokens, keys["tokenizer.ggml.scores"], strict=True))
    for sentence in ("how many dogs are there", "is the red cat left of two people? yes 犬"):
        expected = processor.tokenizer.backend_tokenizer.encode("<s>" + sentence, add_special_tokens=False).tokens
        assert _merged(sentence, scores) == expected[1:]
    assert keys["tokenizer.ggml.model"] == "llama"
    assert keys["tokenizer.ggml.add_space_prefix"] is keys["tokenizer.ggml.add_bos_token"] is False


def _merged(text: str, scores: dict[str, float]) -> list[str]:
    """llama.cpp's SentencePiece: the leftmost pair of the highest score is merged until there is none; then bytes."""
    pieces = list(text.replace(" ", "▁"))
    while pairs := [(scores[a + b], -n) for n, (a, b) in enumerate(pairwise(pieces)) if a + b in scores]:
        place = -max(pairs)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return [p for one in pieces for p in ([one] if one in scores else [f"<0x{b:02X}>" for b in one.encode()])]


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
DIGITS = {"type": "Digits", "individual_digits": True}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([BYTES | {"use_regex": True}], "gpt-2"),
        ([DIGITS, BYTES | {"use_regex": True}], "smollm"),
        ([SPLIT, BYTES | {"use_regex": False}], "qwen2"),
    ],
)
def test_the_way_of_splitting_words_has_llama_cpps_name(steps: list[Any], name: str, build: Build) -> None:
    checkpoint = build("llama")
    file = checkpoint / "tokenizer.json"
    split = {"type": "Sequence", "pretokenizers": steps}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pre_tokenizer": split}))
    assert values(export(checkpoint)[0])["tokenizer.ggml.pre"] == name


def test_other_ways_of_splitting_words_are_refused(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = build("llama")
    file = checkpoint / "tokenizer.json"
    split = {"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pre_tokenizer": split}))
    assert main(["export", str(checkpoint), "--to", "gguf", "--out", str(checkpoint.parent / "out")]) == 2
    assert "splits words in a way for which llama.cpp has no name" in capsys.readouterr().err
    assert not (checkpoint.parent / "out").exists()


def test_images_are_followed_by_a_line_break_wherever_the_marker_is(build: Build) -> None:
    checkpoint = build("llama")
    _, processor = open_checkpoint(checkpoint)
    template = checkpoint_template(processor)
    changed = exported_template(processor.tokenizer, template)
    expected = render(processor.tokenizer, template, [{"role": "user", "content": "<__media_a1__>\nwhat?"}], True)
    marker = {"type": "text", "text": "<__media_a1__>"}
    for content in ("<__media_a1__>what?", "<__media_a1__>\nwhat?", [marker, {"type": "text", "text": "what?"}]):
        messages: Any = [{"role": "user", "content": content}]
        assert render(processor.tokenizer, changed, messages, True) == expected
    two: Any = [{"role": "user", "content": "<__media_a1__><__media_a1__>a b__>c"}]
    assert "<__media_a1__>\n<__media_a1__>\na b__>" in render(processor.tokenizer, changed, two, True)
    last: Any = [{"role": "user", "content": "what?\n<__media_a1__>"}]
    assert "what?\n<__media_a1__><|end|>" in render(processor.tokenizer, changed, last, True)
    assert values(export(checkpoint)[0])["tokenizer.chat_template"] == changed
    processor.tokenizer.bos_token = processor.tokenizer.eos_token = "<pad>"  # what llama-cpp-python has for them is ""
    assert render(processor.tokenizer, changed, last, True).startswith("<s>")


@pytest.mark.parametrize("projector", ["linear", "mlp2x_gelu"])
@pytest.mark.parametrize(("tower", "kind"), [("clip", "mlp"), ("siglip", "janus_pro")])
def test_the_vision_file_computes_the_assistants_embeddings(
    tower: str, kind: str, projector: str, build: Build
) -> None:
    checkpoint = build("llama", tower=tower, projector=projector, vision={"image_size": 140})
    _, vision = export(checkpoint, "--dtype", "f32")
    model, _ = open_checkpoint(checkpoint)
    noise = torch.randn(1, 3, 140, 140, generator=torch.Generator().manual_seed(1))
    keys, stored = values(vision), {name: torch.tensor(array) for name, array in tensors(vision).items()}
    assert keys["clip.projector_type"] == kind
    blocks = 2 + (tower == "clip")  # the one in front moves the class token to the row where llama.cpp leaves it out
    assert not any(name.startswith(("v.post_ln", f"v.blk.{blocks}")) for name in stored)
    assert main(["export", str(checkpoint), "--to", "gguf", "--out", str(vision.parent)]) == 0
    rounded = {name: torch.tensor(array) for name, array in tensors(vision.with_name("mmproj-f16.gguf")).items()}
    for pixels in (noise, 3 * noise.abs(), torch.zeros_like(noise)):  # the last is an image of the padding's colour
        with torch.no_grad():
            expected = model.get_image_features(pixels).pooler_output[0]
        torch.testing.assert_close(_run(pixels, keys, stored), expected, atol=2e-3, rtol=1e-2)  # the GELUs differ
        assert torch.cosine_similarity(_run(pixels, keys, rounded).flatten(), expected.flatten(), dim=0) > 0.9999


def _run(pixels: torch.Tensor, keys: dict[str, Any], weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """llama.cpp's clip_graph_llava and clip_graph_siglip, written from their source."""

    def linear(states: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(states, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        eps = keys["clip.vision.attention.layer_norm_epsilon"]
        return functional.layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def activation(states: torch.Tensor) -> torch.Tensor:
        gelu = keys.get("clip.use_gelu", False)
        return functional.gelu(states, approximate="tanh") if gelu else states * torch.sigmoid(1.702 * states)

    mlp, heads = keys["clip.projector_type"] == "mlp", keys["clip.vision.attention.head_count"]
    states = functional.conv2d(pixels, weights["v.patch_embd.weight"], weights.get("v.patch_embd.bias"), stride=14)
    states = states.flatten(2)[0].T
    if mlp and "v.class_embd" in weights:
        states = torch.cat([states, weights["v.class_embd"].view(1, -1)])
    states = states + weights["v.position_embd.weight"]
    if "v.pre_ln.weight" in weights:
        states = norm(states, "v.pre_ln")
    layers = keys["clip.vision.feature_layer"][0] if mlp else keys["clip.vision.block_count"]
    for n in range(layers):
        name = f"v.blk.{n}"
        inside = norm(states, f"{name}.ln1")
        split = [linear(inside, f"{name}.attn_{p}").view(len(states), heads, -1).transpose(0, 1) for p in "qkv"]
        split[1] = split[1].half().float()  # as for flash attention
        mixed = functional.scaled_dot_product_attention(*split).transpose(0, 1).reshape(states.shape)
        states = states + linear(mixed, f"{name}.attn_out")
        states = states + linear(activation(linear(norm(states, f"{name}.ln2"), f"{name}.ffn_up")), f"{name}.ffn_down")
    if mlp and "v.class_embd" in weights:
        states = states[1:]
    hidden = linear(states, "mm.0")
    hidden = functional.gelu(hidden, approximate="tanh") if mlp else activation(hidden)
    return linear(hidden, "mm.2" if mlp else "mm.1")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"tower": "dinov2"}, "no vision tower 'dinov2'"),
        ({"tower": "siglip", "act": "quick_gelu", "vision": {"intermediate_size": 32}}, "swap its two matrices"),
        ({"act": "relu"}, "the vision tower's activation is 'relu'"),
        ({"feature_strategy": "full"}, "the class token is a feature"),
        ({"image_aspect": "crop"}, "images are cropped"),
        ({"image_aspect": "stretch"}, "images are stretched"),
        ({"text": {"hidden_act": "gelu"}}, "the language model's activation is 'gelu'"),
    ],
)  # fmt: skip
def test_what_llama_cpp_runs_otherwise_is_refused(
    keys: dict[str, Any], reason: str, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = build(**keys)
    assert main(["export", str(checkpoint), "--to", "gguf", "--out", str(checkpoint.parent / "out")]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert ("--allow-framing" in message) == ("image_aspect" in keys)
    if "image_aspect" in keys:
        export(checkpoint, "--allow-framing")


def test_another_family_is_refused_with_llama_cpps_converter() -> None:
    (reason,) = text_obstacles(AutoConfig.for_model("olmo2"))
    assert "'olmo2'" in reason
    assert "convert_hf_to_gguf.py" in reason
