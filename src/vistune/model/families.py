"""The families of vision towers and language models that are supported, and what differs between them.

A family is here when a test has shown that a checkpoint of it loads in plain transformers as `LlavaForConditional-
Generation` and that our packed forward pass gives the same loss and gradients as the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
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

MULTIMODAL = ("gemma3", "mistral3", "llava")
"""Models of images and texts whose language model can be taken out, if its own family is supported."""


def leading_tokens(config: Any) -> int:
    """Number of tokens that a vision tower of that config puts before the patches."""
    return VISION[config.model_type].leading(config)


def vision_blocks(tower: Any) -> nn.ModuleList:
    """The tower's transformer layers, in order."""
    depth = tower.config.num_hidden_layers
    return next(part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
