"""Adapter checkpoints: only what was trained (projector, adapters), and the name of the base that it was trained on.

`base.json` names the base: {"checkpoint": a folder, from this one}, or {"model": the recipe's model, "seed": a
number} if training began with the backbones. Beside it are the adapters in PEFT's layout, which hold the projector,
too, or the projector alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from vistune.errors import CheckpointError
from vistune.model import adapters
from vistune.model.assemble import assemble
from vistune.model.checkpoint import (
    BASE,
    is_complete,
    keep_own_template,
    load_checkpoint,
    refuse_pipes,
    save_checkpoint,
)
from vistune.model.pretrained import local_folder
from vistune.model.projector import MARK, LinearProjector, as_one_layer, saved_weights
from vistune.output_folder import empty_folder
from vistune.reading import read_json
from vistune.recipe.training import ModelRecipe, Recipe
from vistune.storage import add_files

_PROJECTOR = "projector.safetensors"


@dataclass(frozen=True, slots=True)
class Backbones:
    """An assistant before any training, assembled from pre-trained parts."""

    recipe: ModelRecipe
    seed: int

    def assemble(self, *, weights: bool = True) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
        """The model, without `weights` on the device `meta`, and its processor. Raises CheckpointError, RecipeError."""
        return assemble(self.recipe, self.seed, weights=weights)


Base = Path | str | Backbones
"""What a training starts from: a checkpoint's folder, or its hub id, or backbones."""


def starting_point(recipe: Recipe) -> Base:
    """What a recipe's first stage starts from. Raises CheckpointError for a checkpoint that does not exist."""
    if recipe.model is not None:
        return Backbones(recipe.model, recipe.seed)
    start = str(recipe.start)
    if not is_complete(local_folder(start)):
        raise CheckpointError("there is no checkpoint to start from", where=start, fix="set the recipe's `start`")
    return Path(start) if Path(start).exists() else start


def save_adapter_checkpoint(model: LlavaForConditionalGeneration, path: Path, base: Base) -> None:
    """Write the projector, and the adapters if there are any, of a model that was `base` before its training.

    Raises StorageError if the disk is full.
    """
    name = os.path.relpath(base, path) if isinstance(base, Path) else base if isinstance(base, str) else ""
    with add_files(path, BASE) as partial:
        if adapters.lora_layers(model):
            adapters.save_adapter(model, partial, str(base.resolve()) if isinstance(base, Path) else name)
        else:
            save_file(saved_weights(model.model.multi_modal_projector), partial / _PROJECTOR)
        (partial / BASE).write_text(json.dumps(_named(base, name), indent=2) + "\n", "utf-8")


def _named(base: Base, name: str) -> dict[str, Any]:
    if not isinstance(base, Backbones):
        return {"checkpoint": name}
    model = base.recipe.model_dump()
    for part in ("vision_tower", "language_model"):
        if Path(model[part]).exists():
            model[part] = str(Path(model[part]).resolve())
    return {"model": model, "seed": base.seed}


def open_checkpoint(
    name: Path | str, *, one_layer: bool = False, weights: bool = True
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model and processor of a checkpoint, whole or of adapters, in float32; adapters are merged.

    `name` is a folder, or a hub id, which is fetched. A folder of PEFT's without `base.json` is read, too. With
    `one_layer`, a linear projector is the single layer it is. Without `weights` the model is on the device `meta`.
    Raises CheckpointError if anything is missing or does not fit.
    """
    path = local_folder(name)
    model, processor = (_open_on_base if is_adapter(path) else load_checkpoint)(path, weights=weights)
    if one_layer and getattr(model.config, MARK, None) == "linear":
        model.model.multi_modal_projector = as_one_layer(model.model.multi_modal_projector)
    model.eval()
    return model, processor


def open_on_device(
    name: Path | str, device: torch.device, dtype: torch.dtype, bits: Literal[4, 8] | None = None
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A checkpoint's model, to answer with, on a device in `dtype`, and its processor; see `open_checkpoint`.

    With `bits` the language model's layers are quantised, which needs a CUDA device. Raises CheckpointError,
    MissingPackageError.
    """
    if bits and device.type != "cuda":
        what = f"layers of {bits} bits are computed on a CUDA device, this one is {device}"
        fix = "leave it out; --dtype bfloat16 halves the weights"
        raise CheckpointError(what, where=f"--load-in-{bits}bit", fix=fix)
    path = local_folder(name)
    # adapters are merged in float32; else no more is read than is needed
    model, processor = open_checkpoint(path) if is_adapter(path) else load_checkpoint(path, dtype=dtype)
    if bits:
        adapters.quantize(model.model.language_model, dtype, bits)
    module: torch.nn.Module = model.eval()
    module.to(device, dtype)
    return model, processor


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter checkpoint, which needs its base."""
    return not (path / "config.json").is_file() and any((path / name).is_file() for name in (BASE, adapters.CONFIG))


def _open_on_base(path: Path, *, weights: bool) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    base = read_base(path)
    opened = base.assemble(weights=weights) if isinstance(base, Backbones) else open_checkpoint(base, weights=weights)
    model, processor = opened
    if isinstance(model.model.multi_modal_projector, LinearProjector):
        with model.device:
            model.model.multi_modal_projector = LlavaMultiModalProjector(model.config)
    if not weights:
        return model, processor
    try:
        if (path / adapters.CONFIG).is_file():
            model = adapters.merge_adapter(model, path)
        else:
            model.model.multi_modal_projector.load_state_dict(load_file(path / _PROJECTOR))
    except CheckpointError:
        raise
    except Exception as error:  # PEFT raises errors of any type for settings that it does not know
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        what, fix = f"does not fit its base: {reason}", f"correct the base's name in {BASE}"
        raise CheckpointError(what, where=str(path), fix=fix) from error
    keep_own_template(model, processor)  # as it was in their training
    return model, processor


def merge(
    checkpoint: Path, out: Path, dtype: Literal["float32", "bfloat16", "float16"], *, overwrite: bool = False
) -> None:
    """Write an adapter checkpoint as a whole one, which needs no base.

    Raises VistuneError if another run is using `out`, and if it is not empty, without `overwrite`.
    """
    with empty_folder(out, overwrite=overwrite):
        model, processor = open_checkpoint(checkpoint, one_layer=True)
        save_checkpoint(model, processor, out, getattr(torch, dtype))


def read_base(path: Path) -> Path | Backbones:
    """What an adapter checkpoint was trained on. Raises CheckpointError if it is missing or not named.

    So it does if bases of bases lead back to it.
    """
    base = below = _read_base(path)
    known = {path.resolve()}
    while isinstance(below, Path) and is_adapter(below):
        if below.resolve() in known:
            fix = f"correct the name of the base in {BASE}"
            raise CheckpointError("its bases lead back to it", where=str(path), fix=fix)
        known.add(below.resolve())
        below = _read_base(below)
    return base


def _read_base(path: Path) -> Path | Backbones:
    refuse_pipes(path)
    file = path / (BASE if (path / BASE).is_file() else adapters.CONFIG)
    content = read_json(file, CheckpointError)
    try:
        if "model" in content:
            return Backbones(ModelRecipe.model_validate(content["model"]), int(content["seed"]))
        name = content["checkpoint" if file.name == BASE else "base_model_name_or_path"]
        base = path / name if (path / name).is_dir() else local_folder(name)
    except CheckpointError:
        fix = f"put that checkpoint there, or correct its path in {file.name}"
        raise CheckpointError(f"its base {name} is missing", where=str(path), fix=fix) from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"does not name its base: {error}", where=str(file), fix='name its base there: {"checkpoint": FOLDER}'
        ) from None
    return Path(os.path.normpath(base))
