"""The vision tower and the language model that an assistant is made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.image_processing_base import ImageProcessingMixin

from vistune.errors import CheckpointError
from vistune.model.families import LANGUAGE, VISION


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


def load_vision(source: str) -> tuple[Any, Mapping[str, Any]]:
    """The vision tower, in float32, and its image processor's settings. Raises CheckpointError."""
    family = _family(source, VISION, "vision tower")
    try:
        tower = VISION[family].model.from_pretrained(source, dtype=torch.float32)
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    return tower, settings


def load_language(source: str) -> tuple[Any, Any]:
    """The language model, in float32, and its tokenizer. Raises CheckpointError."""
    _family(source, LANGUAGE, "language model")
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    if not tokenizer.is_fast:
        raise CheckpointError("its tokenizer gives no character offsets", where=source, fix="add a tokenizer.json")
    return model, tokenizer


def _family(source: str, families: Collection[str], what: str) -> str:
    try:
        family = str(AutoConfig.from_pretrained(source).model_type)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    if family not in families:
        fix = f"use a {what} of one of the families: {', '.join(families)}"
        raise CheckpointError(f"a {what} of the family '{family}' is not supported", where=source, fix=fix)
    return family


def _unreadable(source: str, error: Exception) -> CheckpointError:
    fix = "give a folder, or a hub id that this machine can reach"
    return CheckpointError(f"cannot be read as a model: {str(error).splitlines()[0]}", where=source, fix=fix)
