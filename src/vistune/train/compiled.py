"""The language model's layers compiled by torch: norms, rotations and activations become single passes over memory."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from vistune.errors import RecipeError


def check_compiler() -> None:
    """Raises RecipeError if layers are to be compiled for a CPU and there is no C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if not torch.accelerator.is_available() and shutil.which(compiler) is None:
        fix = "install g++, name another compiler in the variable CXX, or leave `compile` out"
        raise RecipeError(f"compiling needs the C++ compiler {compiler}", where="compile", fix=fix)


def compile_layers(model: LlavaForConditionalGeneration) -> None:
    """Have the layers compiled when they first run, once for rows of any length; results differ by rounding.

    In place, so no weight gets another name. The last layer is left as it is, since it computes chosen rows only, and
    the attention, which is called piece by piece or compiled by itself.
    """
    language: Any = model.model.language_model
    for layer in language.layers[:-1]:
        layer.compile(dynamic=True)
