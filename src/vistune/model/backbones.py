"""The vision tower and the language model that an assistant is made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils.hub import cached_file

from vistune import resources
from vistune.errors import CheckpointError
from vistune.model.families import LANGUAGE, MULTIMODAL, VISION
from vistune.model.gguf import GgufFile
from vistune.model.pretrained import outline, read_pretrained, reading, unreadable

_HINTS = {
    "siglip2": "use a SigLIP 2 of fixed resolution, not NaFlex",
    "dinov3_convnext": "use a DINOv3 ViT",
}
"""What to use instead of a family that is close to a supported one."""


def resolve(name: str, part: Literal["vision", "language"]) -> str:
    """Where a backbone is: `mini` is the one in this package, else a folder or GGUF file, else a hub id.

    `ID:FILE.gguf` is a GGUF file of a hub id, which is fetched. Raises CheckpointError for a path that is not there.
    """
    if name == "mini":
        folder = resources.folder("vistune.demo", f"backbones/{part}")
        if not folder.is_dir():
            raise CheckpointError(
                "this installation has no miniature backbones", where=str(folder), fix="install vistune from its wheel"
            )
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
            raise unreadable(name, error) from None
    if not Path(name).is_file():
        raise CheckpointError("there is no such file", where=name, fix="check the recipe's language model")
    return name


def load_vision(source: str, *, weights: bool = True, allow_pickle: bool = False) -> tuple[Any, Mapping[str, Any]]:
    """The vision tower, in float32, and its image processor's settings. Raises CheckpointError.

    Of a model of images and texts (CLIP, SigLIP), only the tower is read. Without `weights` it is on the device `meta`.
    Weights are safetensors, with `allow_pickle` also pickles.
    """
    family = _config(source).model_type
    _check_family(family, VISION, "vision tower", source)
    tower = _read(VISION[family].model, source, weights, allow_pickle)
    with reading(source):
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
    if missing := [key for key in ("image_mean", "image_std") if key not in settings]:
        fix = "add it to its preprocessor_config.json"
        raise CheckpointError(f"its image processor has no {missing[0]}", where=source, fix=fix)
    return tower, settings


def load_language(source: str, *, weights: bool = True, allow_pickle: bool = False) -> tuple[Any, Any]:
    """The language model, in float32, and its tokenizer; of a model that sees, only these. Raises CheckpointError.

    Without `weights` it is on the device `meta`, but for a GGUF file.
    """
    if source.endswith(".gguf"):
        file = GgufFile(Path(source))
        _check_family(file.family, LANGUAGE, "language model", source)
        return file.load()
    config = _config(source)
    sees = config.model_type in MULTIMODAL
    _check_family(config.text_config.model_type if sees else config.model_type, LANGUAGE, "language model", source)
    read = _text_model if sees else partial(_read, AutoModelForCausalLM)
    model = read(source, weights, allow_pickle)
    with reading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise CheckpointError("its tokenizer gives no character offsets", where=source, fix="add a tokenizer.json")
    return model, tokenizer


def _read(kind: Any, source: str, weights: bool, allow_pickle: bool) -> Any:
    return read_pretrained(kind, source, whole=False, allow_pickle=allow_pickle) if weights else outline(kind, source)


def _text_model(source: str, weights: bool, allow_pickle: bool) -> Any:
    whole = _read(AutoModelForImageTextToText, source, weights, allow_pickle)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(whole.config.text_config)
    model.model, model.lm_head = whole.model.language_model, whole.lm_head
    model.config.tie_word_embeddings = model.lm_head.weight is model.get_input_embeddings().weight
    model.eval()
    return model


def _config(source: str) -> Any:
    with reading(source):
        return AutoConfig.from_pretrained(source, trust_remote_code=False)


def _check_family(family: str, families: Collection[str], what: str, source: str) -> None:
    if family not in families:
        fix = _HINTS.get(family, f"use a {what} of one of the families: {', '.join(families)}")
        raise CheckpointError(f"a {what} of the family '{family}' is not supported", where=source, fix=fix)
