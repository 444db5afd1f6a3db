"""The language model as a GGUF file: names, keys and the order of values that llama.cpp expects.

The families here are those whose particulars are known and tested. Any other one is exported by llama.cpp's own
converter, which reads the text model of a checkpoint in our layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.errors import require
from vistune.export.gguf_file import Precision, write_gguf
from vistune.export.gguf_tokenizer import add_tokenizer
from vistune.storage import final_path


@dataclass(frozen=True, slots=True)
class Family:
    """A family of language models in llama.cpp."""

    architecture: str
    """Its name there."""
    activation: str = "silu"
    neighbours: bool = False
    """Whether llama.cpp rotates pairs of neighbouring dimensions, where transformers rotates those of two halves."""
    norm_offset: float = 0.0
    """What transformers adds to the weights of a norm when it runs."""


FAMILIES = {
    "llama": Family("llama", neighbours=True),  # Vicuna, SmolLM and SmolLM2, too
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma3_text": Family("gemma3", "gelu_pytorch_tanh", norm_offset=1.0),
}
_ROPE = ("default", "linear", "yarn", "llama3")


def text_obstacles(config: Any) -> list[str]:
    """Why llama.cpp would not run the language model of that config as transformers does, or we cannot write it."""
    if config.model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        return [
            f"a language model of the family '{config.model_type}' is not written here, only {known}: export with "
            "--to merged, then run llama.cpp's convert_hf_to_gguf.py on that folder for the text model"
        ]
    found = []
    activation = getattr(config, "hidden_act", None) or config.hidden_activation
    if activation != FAMILIES[config.model_type].activation:
        found.append(f"the language model's activation is '{activation}'")
    for kind, rope in _ropes(config).items():
        if rope.get("rope_type", "default") not in _ROPE:
            found.append(f"its rotary embeddings are scaled by '{rope['rope_type']}'")
        if kind == "sliding_attention" and rope.get("rope_type", "default") != "default":
            found.append("the rotary embeddings of its sliding-window layers are scaled")
    if config.model_type != "gemma3_text" and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        found.append("some of its layers have a sliding window")
    if getattr(config, "attn_logit_softcapping", None):
        found.append("its attention scores are capped")
    if config.model_type == "gemma3_text":
        found += _gemma_obstacles(config)
    return found


def _gemma_obstacles(config: Any) -> list[str]:
    """llama.cpp knows Gemma 3's layout by heart: every sixth layer is global, and the 27B's scores are scaled apart."""
    found = []
    if any((kind == "full_attention") != (number % 6 == 0) for number, kind in enumerate(config.layer_types, 1)):
        found.append("its global layers are not every sixth one, as llama.cpp assumes of Gemma 3")
    largest = config.num_hidden_layers == 62
    scale = config.hidden_size // config.num_attention_heads if largest else config.head_dim
    if config.query_pre_attn_scalar != scale:
        found.append(f"its attention scores are divided by the root of {config.query_pre_attn_scalar}, not of {scale}")
    local = _ropes(config)["sliding_attention"].get("rope_theta")
    if local != 10_000:
        found.append(f"its sliding-window layers have a rotary base of {local}, not 10000, as llama.cpp assumes")
    return found


def write_text_model(model: Any, tokenizer: Any, template: str, path: Path, precision: Precision) -> None:
    """Write the language model of an assistant, with its tokenizer and chat template. `text_obstacles` are none.

    Raises CheckpointError, MissingPackageError, StorageError.
    """
    gguf = require("gguf", "gguf", "writing a GGUF file", where=str(path))
    config = model.config.text_config
    family = FAMILIES[config.model_type]

    def describe(writer: Any) -> None:
        writer.add_name(final_path(path).stem)
        writer.add_type("model")
        _add_shape(writer, config, family.architecture)
        _add_rope(writer, config, gguf.RopeScalingType)
        add_tokenizer(writer, tokenizer, template, config.vocab_size)

    write_gguf(path, family.architecture, precision, text_tensors(model), describe)


def text_tensors(model: Any) -> dict[str, Tensor]:
    """The language model's weights by llama.cpp's names; a head tied to the embeddings is left out."""
    gguf = require("gguf", "gguf", "naming the tensors of a GGUF file")
    config = model.config.text_config
    family = FAMILIES[config.model_type]
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[family.architecture], config.num_hidden_layers)
    weights = {f"model.{name}": weight for name, weight in model.model.language_model.state_dict().items()}
    if not model.config.tie_word_embeddings:
        weights["lm_head.weight"] = model.lm_head.weight
    tensors = {
        str(names.get_name(name, (".weight", ".bias"))): _as_stored(name, weight.detach(), config, family)
        for name, weight in weights.items()
    }
    rope = _ropes(config)["full_attention"]
    if rope.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = _llama3_table(rope, _head_width(config))
    return tensors


def _as_stored(name: str, weight: Tensor, config: Any, family: Family) -> Tensor:
    if family.norm_offset and name.endswith("norm.weight"):
        return weight + family.norm_offset
    if family.neighbours and ".q_proj." in name:
        return _interleave(weight, config.num_attention_heads)
    if family.neighbours and ".k_proj." in name:
        return _interleave(weight, config.num_key_value_heads)
    return weight


def _interleave(weight: Tensor, heads: int) -> Tensor:
    """Rows (H d, …) with each head's halves interleaved, so that the pairs that are rotated are neighbours."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _add_shape(writer: Any, config: Any, architecture: str) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(_head_width(config))
    writer.add_value_length(_head_width(config))
    writer.add_vocab_size(config.vocab_size)
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _add_rope(writer: Any, config: Any, types: Any) -> None:
    rope = _ropes(config)["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    if config.model_type != "gemma3_text":
        writer.add_rope_dimension_count(_head_width(config))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(types.LINEAR if kind == "linear" else types.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _llama3_table(rope: dict[str, Any], width: int) -> Tensor:
    """What each pair's frequency is divided by (d / 2), in Llama 3.1's and 3.2's scaling."""
    frequencies = rope["rope_theta"] ** -(torch.arange(0, width, 2) / width)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * torch.pi)  # in the original context
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    table: Tensor = 1 / ((1 - smooth) / factor + smooth)
    return table


def _ropes(config: Any) -> dict[str, dict[str, Any]]:
    """The rotary embeddings' settings for each type of layer."""
    settings: dict[str, Any] = config.rope_parameters
    return settings if "full_attention" in settings else {"full_attention": settings}


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
