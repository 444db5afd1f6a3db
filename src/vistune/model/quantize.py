"""Linear layers in four bits (QLoRA's NF4), by the package bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from vistune.errors import MissingPackageError


def quantize(part: nn.Module, compute: torch.dtype) -> None:
    """Have all linear layers in `part` kept in four bits from when it is next moved to a device.

    They compute in `compute`. Raises MissingPackageError without bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        fix = 'pip install "vistune[qlora]"'
        raise MissingPackageError("keeping layers in four bits needs the package bitsandbytes", fix=fix)
    from bitsandbytes.nn import Linear4bit, Params4bit  # type: ignore[import-not-found,unused-ignore]

    for name, layer in list(part.named_modules()):
        if type(layer) is nn.Linear:
            small = Linear4bit(
                layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=compute,
                quant_type="nf4", device="meta",
            )  # fmt: skip
            small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
            small.bias = layer.bias
            part.set_submodule(name, small)


def dequantized(layer: nn.Linear) -> nn.Linear:
    """The layer with the numbers that its four bits stand for, in float32 on the CPU; another one as it is."""
    weight: Any = layer.weight
    if getattr(weight, "quant_state", None) is None:
        return layer
    from bitsandbytes.functional import dequantize_4bit  # type: ignore[import-not-found,unused-ignore]

    dense = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    numbers = dequantize_4bit(weight.data, weight.quant_state)
    dense.weight = nn.Parameter(numbers.float().cpu().reshape(layer.out_features, layer.in_features))
    if layer.bias is not None:
        dense.bias = nn.Parameter(layer.bias.detach().cpu())
    return dense
