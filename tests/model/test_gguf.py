"""Language models from GGUF files: the same numbers, the same tokens as the model that the file was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from assembling import assemble
from vistune.errors import CheckpointError
from vistune.model.backbones import load_language, resolve

SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.2,
    "bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 4, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}  # fmt: skip
LINEAR = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
          "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3_text": ("gemma3", {"sliding_window": 3, "num_hidden_layers": 6, "rope_parameters": LINEAR}),
    "gemma2": ("gemma2", {"sliding_window": 3}),
    "llama": ("llama", {"rope_parameters": LLAMA3}),
    "phi3": ("phi3", {"sliding_window": 6}),
    "qwen2": ("qwen2", {"rope_parameters": YARN}),
    "qwen3": ("qwen3", {"head_dim": 16}),
}  # fmt: skip
Write = Callable[..., Path]


@pytest.fixture
def write(backbones: Path, tmp_path: Path) -> Write:
    """Writes a model as llama.cpp's converter does: a GGUF file with the tokenizer of the backbone `language`."""

    def write_gguf(model: Any, architecture: str, **changes: Any) -> Path:
        config, path = model.config, tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_name("a small model")
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(head)
        if architecture != "gemma3":
            writer.add_rope_dimension_count(head)
        rope = config.rope_parameters.get("full_attention", config.rope_parameters)
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] in ("linear", "yarn"):
            writer.add_string(f"{architecture}.rope.scaling.type", rope["rope_type"])
            writer.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if rope["rope_type"] == "llama3":
            steps = torch.arange(0, head, 2) / head
            table = rope["rope_theta"] ** -steps / model.model.rotary_emb.inv_freq
            writer.add_tensor("rope_freqs.weight", table.numpy().astype(np.float32))
        if getattr(config, "sliding_window", None):
            writer.add_sliding_window(config.sliding_window)
        for key, value in changes.items():
            writer.add_string(f"{architecture}.{key.replace('__', '.')}", value)
        _write_tokenizer(writer, AutoTokenizer.from_pretrained(backbones / "language"))
        known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        names = gguf.get_tensor_name_map(known[architecture], config.num_hidden_layers)
        for name, weight in model.named_parameters():
            stored = _as_stored(name, weight.detach(), config, architecture)
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), stored.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write_gguf


def _as_stored(name: str, weight: Tensor, config: Any, architecture: str) -> Tensor:
    """llama.cpp adds Gemma's one to the norms, and pairs Llama's rotated dimensions as neighbours."""
    if architecture.startswith("gemma") and "norm" in name:
        return weight + 1
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape).contiguous()
    return weight


def _write_tokenizer(writer: Any, tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    )
    writer.add_token_merges([" ".join(merge) for merge in _merges(tokenizer)])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _merges(tokenizer: Any) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return merges


def _model(family: str, changes: dict[str, Any], tokens: int) -> Any:
    config = AutoConfig.for_model(family, vocab_size=tokens, **{**SMALL, **changes})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", MODELS)
def test_a_gguf_file_is_the_model_it_was_made_from(family: str, write: Write, backbones: Path) -> None:
    architecture, changes = MODELS[family]
    tokenizer = AutoTokenizer.from_pretrained(backbones / "language")
    model = _model(family, changes, len(tokenizer))
    read, its_tokenizer = load_language(resolve(str(write(model, architecture)), "language"))
    ids = torch.randint(len(tokenizer), (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    assert read.config.model_type == family
    assert not hasattr(read.config, "quantization_config")
    text = "<s><|user|>\nhow many dogs, é犬?<|end|>\n"
    assert its_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (
        its_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        == (tokenizer(text, return_offsets_mapping=True)["offset_mapping"])
    )
    assert its_tokenizer.chat_template == tokenizer.chat_template
    assert (its_tokenizer.bos_token, its_tokenizer.eos_token) == (tokenizer.bos_token, tokenizer.eos_token)


def test_tied_weights_are_counted_once_in_a_model_without_weights(write: Write, backbones: Path) -> None:
    tied = _model("llama", {"tie_word_embeddings": True}, len(AutoTokenizer.from_pretrained(backbones / "language")))
    file = str(write(tied, "llama"))
    counts = []
    for weights in (True, False):
        model, _ = assemble(str(backbones / "vision"), file, projector="linear", weights=weights)
        counts.append(sum(weight.numel() for weight in model.parameters()))
    assert counts[0] == counts[1]


def test_what_transformers_would_leave_out_is_an_error(write: Write, tmp_path: Path) -> None:
    biased = _model("llama", {"attention_bias": True}, 300)
    with pytest.raises(CheckpointError, match=r"llama\.gguf: transformers reads [\d,]+ values of the"):
        load_language(str(write(biased, "llama")))
    plain = _model("llama", {}, 300)
    with pytest.raises(CheckpointError, match="rotary embeddings scaled by 'su', which is not supported"):
        load_language(str(write(plain, "llama", rope__scaling__type="su", rope__scaling__factor="2")))
    with pytest.raises(CheckpointError, match="there is no such file"):
        resolve(str(tmp_path / "none.gguf"), "language")
    with pytest.raises(CheckpointError, match="cannot be read as a model"):
        resolve("no-such/repository:file.gguf", "language")
    (tmp_path / "text.gguf").write_text("no GGUF")
    with pytest.raises(CheckpointError, match="cannot be read as a GGUF model"):
        load_language(str(tmp_path / "text.gguf"))
