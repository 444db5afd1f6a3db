"""A checkpoint as the engine runs it: on a device, in its dtype, with weights in the form that is computed fastest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vistune.errors import CheckpointError
from vistune.model.adapter_checkpoint import open_on_device


def load_model(
    name: Path | str, device: str | None = None, dtype: torch.dtype | None = None, bits: Literal[4, 8] | None = None
) -> tuple[Any, Any]:
    """The model and processor of a checkpoint's folder or hub id, on the GPU if there is one.

    `dtype` None is bfloat16 on a GPU, where `bits` quantises the language model's layers, and float32 elsewhere.
    Raises CheckpointError.
    """
    place = _usable(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.bfloat16 if place.type == "cuda" else torch.float32)
    model: Any
    model, processor = open_on_device(name, place, dtype, bits)
    if place.type == "cpu" and _packs(dtype):
        _pack(model.model.language_model)
        model.lm_head = _OneDnnLinear(model.lm_head, packed=not model.config.tie_word_embeddings)
    return model, processor


def _usable(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without CUDA
        what = f"the device '{name}' cannot be used: {str(error).splitlines()[0]}"
        raise CheckpointError(what, where="--device", fix="name a device that this machine has") from None


def _packs(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _OneDnnLinear(nn.Module):
    """A linear layer that oneDNN computes, from weights in its own order (as torch.compile packs them) if `packed`.

    For the few tokens of a running batch the layers take most of the time, and a quarter less of it this way.
    """

    def __init__(self, layer: nn.Linear, *, packed: bool = True) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if packed else weight
        self._bias = layer.bias

    def forward(self, states: Tensor) -> Tensor:
        rows = states.flatten(0, -2)
        padded = functional.pad(rows, (0, 0, 0, _size(len(rows)) - len(rows)))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(padded, self._weight, self._bias, "none", [], "")
        return product[: len(rows)].view(*states.shape[:-1], -1)


def _size(rows: int) -> int:
    """The number of rows that is computed: oneDNN keeps half a megabyte of code for each, so there are few."""
    step = 8 if rows <= 64 else 32
    return 1 << (rows - 1).bit_length() if rows <= 8 else math.ceil(rows / step) * step


@torch.no_grad()
def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, _OneDnnLinear(child))
        else:
            _pack(child)
