"""A checkpoint as the engine runs it: on a device, in its dtype, with weights in the form that is computed fastest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

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
        _pack(model.model if model.config.tie_word_embeddings else model)  # else the head's are the embeddings
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


class _PackedLinear(nn.Module):
    """A linear layer whose weights are in oneDNN's own order, as torch.compile packs them.

    For the few tokens of a running batch the product takes two thirds of the time: otherwise each call reorders.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self._bias = layer.bias

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return product


@torch.no_grad()
def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, _PackedLinear(child))
        else:
            _pack(child)
