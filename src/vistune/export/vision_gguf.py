"""The vision tower and the projector as llama.cpp's `mmproj` file.

Facts of llama.cpp's mtmd (clip.cpp, models/llava.cpp, models/siglip.cpp), read at llama-cpp-python 0.3.36:

- An image is resized (bicubic) until its longer side fits, and padded in the middle, with a colour that depends on the
  type of the projector: CLIP's mean for `mlp`, grey (127) for `janus_pro`. LLaVA pads first and resizes then, so that
  the pixels of images that are not square differ slightly at the borders.
- `mlp` puts a class token in the wrong row; see clip_gguf. `janus_pro` knows no class token.
- The layers in the file are all run, but for `mlp` one less without the key `feature_layer`. A `post_ln` would be
  applied, so it is not written.
- The projector's activation is GELU by its tanh approximation, also where transformers computes it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vistune.export.clip_gguf import shifted_rows, widened, widened_eps
from vistune.export.gguf_file import Precision, write_gguf
from vistune.model.families import leading_tokens
from vistune.model.projector import MARK, LinearProjector
from vistune.model.vision import used_blocks
from vistune.storage import final_path

_MLP_COLOR, _GREY = (122, 116, 104), (127, 127, 127)
_TOWERS = ("clip_vision_model", "siglip_vision_model")
_ACTIVATIONS = {"quick_gelu": None, "gelu": "gelu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "silu": "silu"}
"""The tower's activations, by the key's end that chooses them; quick GELU is chosen by none."""
_LAYER = {
    "layer_norm1": "ln1", "layer_norm2": "ln2", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
}  # fmt: skip
_EMBEDDINGS = {
    "embeddings.class_embedding": "v.class_embd", "embeddings.patch_embedding.weight": "v.patch_embd.weight",
    "embeddings.patch_embedding.bias": "v.patch_embd.bias",
    "embeddings.position_embedding.weight": "v.position_embd.weight",
    "pre_layrnorm.weight": "v.pre_ln.weight", "pre_layrnorm.bias": "v.pre_ln.bias",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why llama.cpp would compute something else for an image."""

    reason: str
    framing: bool = False
    """Whether only the pixels differ, as images are resized or made square in another way."""


def vision_obstacles(config: Any, image_processor: Any) -> list[Obstacle]:
    """Why llama.cpp would not see what the assistant of that config sees."""
    tower = config.vision_config
    if getattr(config, "image_grid_pinpoints", None):
        return [Obstacle("it reads images in tiles (anyres), which are not written for llama.cpp here")]
    if tower.model_type not in _TOWERS:
        return [Obstacle(f"llama.cpp has no vision tower '{tower.model_type}' for LLaVA, only CLIP and SigLIP")]
    found = []
    if tower.hidden_act not in _ACTIVATIONS:
        found.append(Obstacle(f"the vision tower's activation is '{tower.hidden_act}'"))
    if tower.intermediate_size == _width(tower) and _projector_type(tower, image_processor) != "janus_pro":
        reason = "the vision tower's MLP is as wide as its states: llama.cpp would swap its two matrices"
        found.append(Obstacle(reason))
    if leading_tokens(tower) and config.vision_feature_select_strategy != "default":
        found.append(Obstacle("the class token is a feature of the image, which llama.cpp leaves out"))
    if not isinstance(config.vision_feature_layer, int):
        found.append(Obstacle("the projector reads several hidden states of the vision tower"))
    if getattr(config, MARK, None) != "linear" and config.projector_hidden_act not in ("gelu", "gelu_pytorch_tanh"):
        found.append(Obstacle(f"the projector's activation is '{config.projector_hidden_act}', not GELU"))
    return found + _pixel_obstacles(tower, image_processor)


def _pixel_obstacles(tower: Any, processor: Any) -> list[Obstacle]:
    found = []
    if processor.resample != Image.Resampling.BICUBIC:
        name = Image.Resampling(processor.resample).name.lower()
        found.append(Obstacle(f"images are resized by the filter {name}, llama.cpp's is bicubic", framing=True))
    if abs(processor.rescale_factor * 255 - 1) > 1e-6:
        found.append(Obstacle("pixels are not scaled to the range from 0 to 1"))
    if not getattr(processor, "do_pad", False):
        how = "cropped" if processor.do_center_crop else "stretched"
        found.append(Obstacle(f"images are {how} to a square, llama.cpp pads them", framing=True))
    elif _projector_type(tower, processor) is None:
        reason = f"images are padded with the colour {_pad_color(processor)}, llama.cpp pads with {_MLP_COLOR}"
        found.append(Obstacle(reason, framing=True))
    return found


def _width(tower: Any) -> int:
    """The width of the tower's states in the file."""
    return widened(tower) if leading_tokens(tower) else int(tower.hidden_size)


def _pad_color(processor: Any) -> tuple[int, ...]:
    return tuple(int(mean * 255) for mean in processor.image_mean)


def _projector_type(tower: Any, processor: Any) -> str | None:
    """The type of projector with which llama.cpp pads with the right colour; None if there is none."""
    if _pad_color(processor) == _MLP_COLOR:
        return "mlp"
    # its projector has the tower's activation
    is_gelu = _ACTIVATIONS.get(tower.hidden_act) == "gelu"
    return "janus_pro" if _pad_color(processor) == _GREY and is_gelu and not leading_tokens(tower) else None


def write_vision_model(model: Any, image_processor: Any, path: Path, precision: Precision) -> None:
    """Write the tower and the projector of an assistant that was opened with `one_layer`.

    Raises CheckpointError, MissingPackageError, StorageError.
    """
    config, tower = model.config, model.config.vision_config
    kind = _projector_type(tower, image_processor) or "mlp"
    tensors, blocks, eps = vision_tensors(model, kind), used_blocks(model), tower.layer_norm_eps
    if has_class_token := bool(leading_tokens(tower)):
        tensors, blocks, eps = shifted_rows(tensors, tower), blocks + 1, widened_eps(tower)

    def describe(writer: Any) -> None:
        writer.add_type("mmproj")
        writer.add_name(final_path(path).stem)
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type(kind)
        writer.add_vision_image_size(tower.image_size)
        writer.add_vision_patch_size(tower.patch_size)
        writer.add_vision_embedding_length(_width(tower))
        writer.add_vision_feed_forward_length(tower.intermediate_size)
        writer.add_vision_projection_dim(config.text_config.hidden_size)
        writer.add_vision_block_count(blocks)
        writer.add_vision_head_count(tower.num_attention_heads)
        writer.add_vision_attention_layernorm_eps(eps)
        writer.add_vision_image_mean([float(mean) for mean in image_processor.image_mean])
        writer.add_vision_image_std([float(deviation) for deviation in image_processor.image_std])
        if chosen := _ACTIVATIONS[tower.hidden_act]:
            writer.add_bool(f"clip.use_{chosen}", True)
        if kind == "mlp":
            writer.add_array("clip.vision.feature_layer", [blocks])

    write_gguf(path, "clip", precision, tensors, describe, exact="v.blk.0." if has_class_token else None)


def vision_tensors(model: Any, kind: str) -> dict[str, Tensor]:
    """The weights that are run, by llama.cpp's names for the projector type `kind`."""
    tensors = {}
    used = used_blocks(model)
    for name, weight in model.model.vision_tower.state_dict().items():
        name = name.removeprefix("vision_model.")
        if name in _EMBEDDINGS:
            tensors[_EMBEDDINGS[name]] = weight
        elif name.startswith("encoder.layers."):
            number, _, rest = name.removeprefix("encoder.layers.").partition(".")
            part, _, end = rest.rpartition(".")
            if int(number) < used:
                tensors[f"v.blk.{number}.{_LAYER[part]}.{end}"] = weight
    return tensors | _projector_tensors(model.model.multi_modal_projector, "1" if kind == "janus_pro" else "2")


def _projector_tensors(projector: Any, last: str) -> dict[str, Tensor]:
    """The two layers; a single one W as [W; -W] and [I, -I], as gelu(x) - gelu(-x) = x."""
    if isinstance(projector, LinearProjector):
        weight, bias = projector.linear.weight, projector.linear.bias
        one = torch.eye(len(weight))
        return {
            "mm.0.weight": torch.cat([weight, -weight]), "mm.0.bias": torch.cat([bias, -bias]),
            f"mm.{last}.weight": torch.cat([one, -one], dim=1), f"mm.{last}.bias": torch.zeros(len(weight)),
        }  # fmt: skip
    tensors = {}
    for number, layer in (("0", projector.linear_1), (last, projector.linear_2)):
        tensors[f"mm.{number}.weight"] = layer.weight
        tensors[f"mm.{number}.bias"] = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return tensors
