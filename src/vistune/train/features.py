"""When a stage caches the features of its frozen vision tower, and the version of these features."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.features import FeatureCache
from vistune.model.vision import image_grid
from vistune.recipe.training import Recipe, StageRecipe
from vistune.train.distributed import decide
from vistune.train.frozen_half import half_dtype


def open_features(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path,
    accelerator: Accelerator,
) -> FeatureCache | None:  # fmt: skip
    """The stage's feature cache in `folder`; None if it encodes each image only once, or trains the tower.

    The main process has to have the tower's weights.
    """
    if not _caches_features(recipe, stage):
        return None
    config: Any = model.config
    shape = image_grid(config).features, config.vision_config.hidden_size
    # in 16 bits the projector reads its input in 16 bits, so nothing is lost
    dtype = half_dtype(recipe) or torch.float32
    limit = int(recipe.feature_cache_gb * 2**30)
    version = decide(accelerator, lambda: _version(model, processor, dtype, accelerator.device))
    return FeatureCache(folder / version, shape, dtype, limit)


def remove_features(folder: Path) -> None:
    """Remove the features that `open_features` put into `folder`, and nothing else that may be there."""
    for file in folder.glob("*/*.bin"):
        file.unlink()
    for empty in (*folder.glob("*"), folder):
        with suppress(OSError):  # it is not there, or holds something of the user's
            empty.rmdir()


def _caches_features(recipe: Recipe, stage: StageRecipe) -> bool:
    """Whether the stage's tower is frozen and gets images again, in a later epoch or in another stage."""
    if not recipe.feature_cache_gb or "vision" in stage.trains:
        return False
    return stage.epochs > 1 or any(_share_images(stage, other) for other in recipe.stages if other.name != stage.name)


def first_views(recipe: Recipe, stage: StageRecipe) -> float:
    """About the share of the stage's views of images that are the first, for which there are no features yet."""
    before = recipe.stages[: [one.name for one in recipe.stages].index(stage.name)]
    if not _caches_features(recipe, stage):
        return 1.0
    return 0.0 if any(_share_images(stage, other) for other in before) else min(1.0, 1 / stage.epochs)


def _share_images(one: StageRecipe, other: StageRecipe) -> bool:
    return not {"vision"} & {*one.trains, *other.trains} and bool(_folders(one) & _folders(other))


def _folders(stage: StageRecipe) -> set[str]:
    return {str(entry.images or entry.path) for entry in stage.sources()}


def _version(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, dtype: torch.dtype, device: torch.device
) -> str:
    """The hash of all inputs of the features besides the image."""
    config: Any = model.config
    image_processor: Any = processor.image_processor
    digest = hashlib.sha256()
    for name, weight in model.model.vision_tower.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    settings = [
        config.vision_config.to_dict(), config.vision_feature_layer, config.vision_feature_select_strategy,
        image_processor.to_dict(), str(dtype), device.type, "records with checksums",
    ]  # fmt: skip
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]
