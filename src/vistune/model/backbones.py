"""The vision tower and the language model that an assistant is made from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPVisionModel, LlamaForCausalLM

from vistune.errors import CheckpointError

_VISION_FAMILIES = ("clip", "clip_vision_model")
_LANGUAGE_FAMILIES = ("llama",)


def resolve(name: str, part: Literal["vision", "language"]) -> str:
    """Where a backbone is: `mini` is the one in this package, else a folder, else a hub id.

    Raises CheckpointError for what looks like a folder but is none.
    """
    if name == "mini":
        folder = Path(str(resources.files("vistune"))) / "mini" / "backbones" / part
        if not folder.is_dir():
            raise CheckpointError("this installation has no miniature backbones", where=str(folder))
        return str(folder)
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise CheckpointError("there is no such folder", where=name, fix=f"check the recipe's {part} model")
    return name


def load_vision(source: str) -> tuple[CLIPVisionModel, Any]:
    """The vision tower, in float32, and its image processor. Raises CheckpointError."""
    _check_family(source, _VISION_FAMILIES, "vision tower")
    try:
        tower = CLIPVisionModel.from_pretrained(source, dtype=torch.float32)
        return tower, AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None


def load_language(source: str) -> tuple[LlamaForCausalLM, Any]:
    """The language model, in float32, and its tokenizer. Raises CheckpointError."""
    _check_family(source, _LANGUAGE_FAMILIES, "language model")
    try:
        model = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    if not tokenizer.is_fast:
        raise CheckpointError("its tokenizer gives no character offsets", where=source, fix="add a tokenizer.json")
    return model, tokenizer


def _check_family(source: str, families: tuple[str, ...], what: str) -> None:
    try:
        family = AutoConfig.from_pretrained(source).model_type
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    if family not in families:
        fix = f"use a {what} of the family {' or '.join(families)}"
        raise CheckpointError(f"a {what} of the family '{family}' is not supported", where=source, fix=fix)


def _unreadable(source: str, error: Exception) -> CheckpointError:
    fix = "give a folder, or a hub id that this machine can reach"
    return CheckpointError(f"cannot be read as a model: {str(error).splitlines()[0]}", where=source, fix=fix)
