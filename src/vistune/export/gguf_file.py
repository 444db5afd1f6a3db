"""Writing a GGUF file tensor by tensor, so that only one of them is converted in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from vistune.errors import CheckpointError, require
from vistune.storage import atomic_path

Precision = Literal["f32", "f16", "q8_0"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's LLAMA_FTYPE
_BLOCK = 32  # values of a row that q8_0 scales together


def write_gguf(
    path: Path, architecture: str, precision: Precision, tensors: Mapping[str, Tensor], describe: Callable[[Any], None],
    exact: str | None = None,
) -> None:  # fmt: skip
    """Write a GGUF file; `describe` adds the keys to the package gguf's writer.

    Matrices are stored with `precision`, vectors and position tables in float32, in which llama.cpp adds them, and so
    are tensors whose names begin with `exact`. A matrix whose rows q8_0 cannot divide into blocks, and a convolution,
    is float16 instead. Raises CheckpointError for a value beyond float16's range, MissingPackageError without gguf,
    StorageError if the disk is full.
    """
    gguf = require("gguf", "gguf", "writing a GGUF file", where=str(path))
    float32 = gguf.GGMLQuantizationType.F32
    types = {
        name: float32 if exact and name.startswith(exact) else _tensor_type(gguf, name, tensor, precision)
        for name, tensor in tensors.items()
    }
    with atomic_path(path) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        describe(writer)
        writer.add_file_type(_FILE_TYPES[precision])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for name, tensor in tensors.items():
            _announce(gguf, writer, name, tuple(tensor.shape), types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            writer.write_tensor_data(_stored(gguf, name, tensor, types[name]))
        writer.close()


def _tensor_type(gguf: Any, name: str, tensor: Tensor, precision: Precision) -> Any:
    types = gguf.GGMLQuantizationType
    if tensor.ndim < 2 or name.startswith("v.position_embd") or precision == "f32":
        return types.F32
    small_blocks = precision == "q8_0" and tensor.ndim == 2 and tensor.shape[-1] % _BLOCK == 0
    return types.Q8_0 if small_blocks else types.F16


def _announce(gguf: Any, writer: Any, name: str, shape: tuple[int, ...], kind: Any) -> None:
    if kind == gguf.GGMLQuantizationType.Q8_0:
        stored = gguf.quants.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kind)
    else:
        dtype = np.dtype(np.float32 if kind == gguf.GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)


def _stored(gguf: Any, name: str, tensor: Tensor, kind: Any) -> Any:
    values = tensor.detach().float().cpu().contiguous().numpy()
    if kind != gguf.GGMLQuantizationType.F32 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        fix = "export with --dtype f32"
        raise CheckpointError(f"the tensor {name} has values beyond float16's range", fix=fix)
    return gguf.quants.quantize(values, kind)
