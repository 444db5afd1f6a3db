"""A whole training run: the stages of a recipe, one after the other."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.source import DataSource
from vistune.errors import RecipeError
from vistune.interrupt import stop_at_once
from vistune.model.adapter_checkpoint import Backbones, open_checkpoint, save_adapter_checkpoint, starting_point
from vistune.model.adapters import merge_lora
from vistune.model.checkpoint import save_checkpoint
from vistune.recipe.training import Recipe, StageRecipe
from vistune.storage import storage_errors
from vistune.train.distributed import decide, end_processes, main_first, start_processes
from vistune.train.features import open_features, remove_features
from vistune.train.frozen_bf16 import hold_in_bf16, restore_float32
from vistune.train.log import check_trackers
from vistune.train.loop import train_stage
from vistune.train.run_folder import check_recipe, check_start, remove_old_states, save_recipe, unfinished_stages
from vistune.train.stages import open_stage_data, prepare_stage
from vistune.train.target_loss import check_compiler

_FEATURES = ".features"
"""The run's folder of features of its frozen vision tower, until the run is finished; no stage can have this name."""


def train(recipe: Recipe, out: Path) -> Path:
    """Train all stages of `recipe`; returns the last one's checkpoint, `out/<stage name>`.

    A finished stage is skipped and an interrupted one continues, so the same call finishes a run that was ended at
    any moment, with the same weights. A damaged checkpoint is named on stderr and made again from its stage's state.
    Raises RecipeError if `out` holds a run of another recipe, DataError for data that cannot be used (checked before
    anything is trained), CheckpointError for a backbone, TrainingError for a loss that is not finite, StorageError if
    the disk is full, Stopped if a signal ended it.
    """
    bound_kernel_caches()
    with stop_at_once(), storage_errors(out):
        checkpoint = _train(recipe, out)
    end_processes()
    return checkpoint


def bound_kernel_caches() -> None:
    """Have oneDNN forget what it compiled for old shapes of bf16 products on the CPU.

    By default it keeps a thousand, and with batches of all lengths memory grows by gigabytes over a run. Takes
    effect only before the process computes its first such product; a user's own setting stays.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # one bounds nothing without the other
        os.environ.setdefault(cache, "32")


def _train(recipe: Recipe, out: Path) -> Path:
    accelerator = start_processes()
    folders = [out / stage.name for stage in recipe.stages]
    numbers = decide(accelerator, lambda: _check(recipe, out, folders, accelerator.num_processes))
    data = main_first(accelerator, lambda: {n: open_stage_data(recipe.stages[n], accelerator.print) for n in numbers})
    for n in numbers:
        base = folders[n - 1] if n else starting_point(recipe)
        _run_stage(base, recipe, recipe.stages[n], data[n], accelerator, folders[n])
        decide(accelerator, partial(remove_old_states, folders[: n + 1]))
    decide(accelerator, lambda: remove_features(out / _FEATURES))
    return folders[-1]


def _check(recipe: Recipe, out: Path, folders: list[Path], processes: int) -> list[int]:
    """The numbers of the stages to train. Raises what can be known before any data or weights are read."""
    for stage in recipe.stages:
        if stage.batch_size < processes:
            what = f"{stage.batch_size} conversations cannot be shared out to {processes} processes"
            fix = f"a batch_size of at least {processes}, or fewer processes"
            raise RecipeError(what, where=f"stages.{stage.name}.batch_size", fix=fix)
    check_recipe(recipe, out)
    check_trackers(recipe)
    if recipe.compile:
        check_compiler()
    unfinished = unfinished_stages(folders)
    if recipe.start and 0 in unfinished:
        check_start(Path(recipe.start))
    return unfinished


def _run_stage(
    base: Path | Backbones, recipe: Recipe, stage: StageRecipe, data: list[list[DataSource]], accelerator: Accelerator,
    folder: Path,
) -> None:  # fmt: skip
    """Train a stage that starts from a checkpoint or the backbones, and save its checkpoint."""
    model, processor = _open(base)
    bf16 = recipe.precision == "bf16"
    dataset, *validation_data = prepare_stage(recipe, stage, model, processor, data, output=accelerator.print)
    summary = dataset.summary()
    for line in summary:
        accelerator.print(f"{stage.name}: {line}")
    decide(accelerator, lambda: save_recipe(recipe, folder.parent))
    features = open_features(recipe, stage, model, processor, folder.parent / _FEATURES)
    if bf16:
        hold_in_bf16(model)
    train_stage(
        model, processor, dataset, stage, accelerator=accelerator, bf16=bf16, seed=recipe.seed, folder=folder,
        feature_cache=features, validation_data=validation_data[0] if validation_data else None,
        compiled=recipe.compile, project=recipe.name, log_to=recipe.log_to,
    )  # fmt: skip
    if features is not None:
        features.close()
    for line in dataset.summary():
        if line not in summary:
            accelerator.print(f"{stage.name}: {line}")
    decide(accelerator, lambda: _save(model, processor, recipe, stage, base, folder))
    accelerator.free_memory()


def _open(base: Path | Backbones) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    return open_checkpoint(base, one_layer=True) if isinstance(base, Path) else base.assemble()


def _save(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, recipe: Recipe, stage: StageRecipe,
    base: Path | Backbones, folder: Path,
) -> None:  # fmt: skip
    """The stage's checkpoint; a whole one with its adapters, if any, merged, and once more by themselves."""
    if stage.save == "trained":
        save_adapter_checkpoint(model, folder, base)
    else:
        if "lora" in stage.trains and "vision" not in stage.trains:
            save_adapter_checkpoint(model, folder / "adapter", base)
        restore_float32(model, lambda: _open(base)[0])
        merge_lora(model)
        save_checkpoint(model, processor, folder, getattr(torch, recipe.save_dtype))
