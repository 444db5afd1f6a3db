"""The vision tower and the language model that an assistant is made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils.hub import cached_file

from vistune.errors import CheckpointError
from vistune.model.families import LANGUAGE, VISION
from vistune.model.gguf import GgufFile


def resolve(name: str, part: Literal["vision", "language"]) -> str:
    """Where a backbone is: `mini` is the one in this package, else a folder or GGUF file, else a hub id.

    `ID:FILE.gguf` is a GGUF file of a hub id, which is fetched. Raises CheckpointError for a path that is not there.
    """
    if name == "mini":
        folder = Path(str(resources.files("vistune"))) / "mini" / "backbones" / part
        if not folder.is_dir():
            raise CheckpointError("this installation has no miniature backbones", where=str(folder))
        return str(folder)
    if name.endswith(".gguf"):
        return _gguf_file(name)
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise CheckpointError("there is no such folder", where=name, fix=f"check the recipe's {part} model")
    return name


def _gguf_file(name: str) -> str:
    repository, colon, file = name.rpartition(":")
    if not Path(name).is_file() and colon:
        try:
            return str(cached_file(repository, file))
        except OSError as error:
            raise _unreadable(name, error) from None
    if not Path(name).is_file():
        raise CheckpointError("there is no such file", where=name, fix="check the recipe's language model")
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
    if source.endswith(".gguf"):
        file = GgufFile(Path(source))
        _check_family(file.family, LANGUAGE, "language model", source)
        return file.load()
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
    _check_family(family, families, what, source)
    return family


def _check_family(family: str, families: Collection[str], what: str, source: str) -> None:
    if family not in families:
        fix = f"use a {what} of one of the families: {', '.join(families)}"
        raise CheckpointError(f"a {what} of the family '{family}' is not supported", where=source, fix=fix)


def _unreadable(source: str, error: Exception) -> CheckpointError:
    fix = "give a folder, or a hub id that this machine can reach"
    return CheckpointError(f"cannot be read as a model: {str(error).splitlines()[0]}", where=source, fix=fix)
