"""The families of vision towers and language models that are supported, and what differs between them.

A family is here when a test has shown that a checkpoint of it loads in plain transformers as `LlavaForConditional-
Generation` and that our packed forward pass gives the same loss and gradients as the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    PreTrainedModel,
    SiglipVisionModel,
)


@dataclass(frozen=True, slots=True)
class VisionFamily:
    """The particulars of a family of vision towers."""

    model: type[PreTrainedModel]
    """Its class in transformers."""
    leading: Callable[[Any], int]
    """Number of tokens before the patches, by its config: the class token and registers."""
    prefix: str = ""
    """Prefix of its weights' names in published LLaVA checkpoints; none: the names of its own checkpoints."""


def _class_and_registers(config: Any) -> int:
    return 1 + int(getattr(config, "num_register_tokens", 0))


_CLIP = VisionFamily(CLIPVisionModel, lambda _: 1, "vision_model.")
_SIGLIP = VisionFamily(SiglipVisionModel, lambda _: 0, "vision_model.")  # SigLIP 2 of fixed resolution, too
VISION = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": VisionFamily(Dinov2Model, _class_and_registers),
    "dinov2_with_registers": VisionFamily(Dinov2WithRegistersModel, _class_and_registers),
    "dinov3_vit": VisionFamily(DINOv3ViTModel, _class_and_registers),
}
"""By the `model_type` of the checkpoint's config."""

LANGUAGE = (
    "gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3",
    "apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "glm", "glm4", "granite", "helium",
    "hunyuan_v1_dense", "ministral", "ministral3", "olmo2", "olmo3", "seed_oss", "starcoder2",
)  # fmt: skip
"""By the `model_type`; Vicuna and SmolLM2 are `llama`, Qwen2.5 is `qwen2`, Phi-4-mini is `phi3`."""

LLAVA: dict[str, type[PreTrainedModel]] = {
    "llava": LlavaForConditionalGeneration,
    "llava_next": LlavaNextForConditionalGeneration,
}
"""The architectures of whole models, by `model_type`: LLaVA-1.5 and, with tiles, LLaVA-1.6."""

MULTIMODAL = ("gemma3", "mistral3", *LLAVA)
"""Models of images and texts whose language model can be taken out, if its own family is supported."""


def leading_tokens(config: Any) -> int:
    """Number of tokens that a vision tower of that config puts before the patches."""
    return VISION[config.model_type].leading(config)


def vision_blocks(tower: Any) -> nn.ModuleList:
    """The tower's transformer layers, in order."""
    depth = tower.config.num_hidden_layers
    return next(part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)


def unsupported(config: Mapping[str, Any]) -> str:
    """Why a whole model with that config.json is not supported; empty if it is."""
    family = config.get("model_type")
    if family not in LLAVA:
        return f"it is a model of the family '{family}'; supported are {' and '.join(LLAVA)}"
    for part, families, default in (("vision", VISION, "clip_vision_model"), ("text", LANGUAGE, "llama")):
        own = config.get(f"{part}_config", {}).get("model_type", default)
        if own not in families:
            return f"its {part} model is of the family '{own}'; supported are {', '.join(families)}"
    if not isinstance(layer := config.get("vision_feature_layer", -2), int):
        return f"its projector reads several hidden states of the vision tower, {layer}; supported is one"
    return ""
