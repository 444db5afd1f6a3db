"""A hash of what determines a local model's answers, by the content of its files: a copy elsewhere has the same."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vistune.errors import CheckpointError
from vistune.model.adapter_checkpoint import Backbones, is_adapter, read_base
from vistune.model.backbones import resolve
from vistune.model.pretrained import SETTINGS, local_folder
from vistune.reading import read_json

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ELSEWHERE = ("_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version")
"""Keys of settings that say where a model came from, not what it computes."""


def fingerprint(model: Path) -> str:
    """The SHA-256 of a model's weights, configuration, tokenizer and chat template, and of its base if it has one.

    `model` is a folder, or a file. Raises CheckpointError if it cannot be read, or if its base is missing.
    """
    files = {model} if model.is_file() else {one for form in _WEIGHTS + SETTINGS for one in model.glob(form)}
    ordered = sorted(files)
    try:
        with ThreadPoolExecutor(4) as pool:  # hashing does not hold the interpreter's lock
            digests = list(pool.map(_digest, ordered))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot be read: {error}", where=str(model), fix="give a folder or a hub id that can be read"
        ) from None
    parts = [*zip([file.name if file != model else "" for file in ordered], digests, strict=True), *_base(model)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _base(model: Path) -> list[Any]:
    """What an adapter checkpoint was trained on."""
    if not is_adapter(model):
        return []
    base = read_base(model)
    if not isinstance(base, Backbones):
        return [fingerprint(base)]
    parts = resolve(base.recipe.vision_tower, "vision"), resolve(base.recipe.language_model, "language")
    towers = [fingerprint(local_folder(name)) for name in parts]
    return [*towers, base.recipe.model_dump(exclude={"vision_tower", "language_model"}), base.seed]


def _digest(file: Path) -> str:
    if file.suffix == ".json" and file.name != "tokenizer.json":  # large, and without such keys
        settings: Any = read_json(file, CheckpointError)
        if isinstance(settings, dict):
            settings = {key: value for key, value in settings.items() if key not in _ELSEWHERE}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
