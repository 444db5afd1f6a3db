"""LoRA: low-rank adapters of the language model's linear layers, in PEFT's own layout; QLoRA's four-bit layers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import nn
from transformers import LlavaForConditionalGeneration

from vistune.errors import CheckpointError, RecipeError, did_you_mean, require
from vistune.model.projector import saved_weights
from vistune.recipe.training import LoraRecipe

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"


def add_lora(
    model: LlavaForConditionalGeneration, settings: LoraRecipe, seed: int, compute: torch.dtype | None = None
) -> None:
    """Add adapters to linear layers of the language model, in place; its outputs are the same as before.

    Their first weights depend on `seed` alone. Layers are quantised when the model is next moved to a device,
    and compute in `compute`, or float32. Raises RecipeError if a name in `settings.targets` is of no linear layer,
    MissingPackageError if quantising needs one.
    """
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
        target_modules=_pattern(model.model.language_model, settings.targets),
    )  # fmt: skip
    if settings.quantize:
        quantize(model.model.language_model, compute or torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, _NAME)


def _pattern(language: nn.Module, targets: Sequence[str] | None) -> str:
    """The pattern of the full names of the chosen layers; none chosen: all linear layers."""
    linear = {name.rpartition(".")[2] for name, part in language.named_modules() if isinstance(part, nn.Linear)}
    for target in targets or ():
        if target not in linear:
            what = f"the language model has no linear layers of the name '{target}'"
            raise RecipeError(what, where="lora.targets", fix=did_you_mean(target, linear))
    return rf"model\.language_model\..*\.({'|'.join(sorted(targets or linear))})"


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    """The layers with an adapter."""
    return [part for part in model.modules() if isinstance(part, LoraLayer)]


def lora_parts(model: nn.Module) -> list[nn.Module]:
    """The adapters' own modules: matrices and dropout."""
    return [part for layer in lora_layers(model) for part in (layer.lora_A, layer.lora_B, layer.lora_dropout)]


def merge_lora(model: LlavaForConditionalGeneration) -> None:
    """Add the adapters to their layers' weights, in place, and remove them: a plain model again.

    Quantised weights come back as the values that they stand for.
    """
    merged = [(name, part) for name, part in model.named_modules() if isinstance(part, LoraLayer)]
    for name, part in merged:
        layer: Any = part
        dense = _dequantized(layer.get_base_layer())
        if dense is not layer.get_base_layer():
            layer.base_layer = dense
        layer.to(dense.weight.device)
        layer.merge()
        model.set_submodule(name, dense)
    if merged:
        del model.peft_config
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Linear):
            model.set_submodule(name, _dequantized(part))


def save_adapter(model: LlavaForConditionalGeneration, path: Path, base: str) -> None:
    """Write the adapters and the projector as PEFT loads them onto the checkpoint that training started from.

    `base` is its name in the configuration, by which PEFT's AutoPeftModel finds it.
    """
    weights = {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": weight.detach().contiguous()
        for name, weight in model.named_parameters()
        if name.startswith("model.language_model.") and ".lora_" in name
    }
    for name, weight in saved_weights(model.model.multi_modal_projector).items():
        weights[f"base_model.model.model.multi_modal_projector.{name}"] = weight
    save_file(weights, path / _WEIGHTS, metadata={"format": "pt"})
    peft: Any = model.peft_config
    settings = {**peft[_NAME].to_dict(), "inference_mode": True, "modules_to_save": ["multi_modal_projector"]}
    settings["base_model_name_or_path"] = base
    settings["auto_mapping"] = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    text = json.dumps(settings, indent=2, sort_keys=True, default=lambda value: getattr(value, "value", str(value)))
    (path / CONFIG).write_text(text + "\n", "utf-8")


def merge_adapter(model: LlavaForConditionalGeneration, path: Path) -> LlavaForConditionalGeneration:
    """The model, changed in place, with the adapters and the projector in `path`, by PEFT or by us, merged into it.

    Raises what PEFT raises if they do not fit.
    """
    if not (path / _WEIGHTS).is_file():
        raise CheckpointError(f"there is no {_WEIGHTS}", where=str(path), fix="save the adapters as safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT calls what transformers deprecates
        merged: LlavaForConditionalGeneration = PeftModel.from_pretrained(model, path).merge_and_unload()
    return merged


def quantize(part: nn.Module, compute: torch.dtype, bits: Literal[4, 8] = 4) -> None:
    """Replace all linear layers in `part` by layers of four bits (QLoRA's NF4) or eight (LLM.int8()).

    The layers compute in `compute`; they are quantised at their next move to a device. Raises MissingPackageError
    without bitsandbytes.
    """
    small = require("bitsandbytes.nn", "qlora", f"keeping layers in {bits} bits")
    for name, layer in list(part.named_modules()):
        if type(layer) is nn.Linear:
            shape = {"bias": layer.bias is not None, "device": "meta"}
            if bits == 4:
                new = small.Linear4bit(*layer.weight.T.shape, **shape, compute_dtype=compute, quant_type="nf4")
                new.weight = small.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
            else:
                new = small.Linear8bitLt(*layer.weight.T.shape, **shape, has_fp16_weights=False, threshold=6.0)
                new.weight = small.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
            new.bias = layer.bias
            part.set_submodule(name, new)


def _dequantized(layer: nn.Linear) -> nn.Linear:
    """The layer with the values that its four bits stand for, in float32 on the CPU; any other layer as it is."""
    weight: Any = layer.weight
    if getattr(weight, "quant_state", None) is None:
        return layer
    dense = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    functional = require("bitsandbytes.functional", "qlora", "reading layers in four bits")
    values = functional.dequantize_4bit(weight.data, weight.quant_state)
    dense.weight = nn.Parameter(values.float().cpu().reshape(layer.out_features, layer.in_features))
    if layer.bias is not None:
        dense.bias = nn.Parameter(layer.bias.detach().cpu())
    return dense
