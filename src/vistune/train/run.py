"""A whole training run: the stages of a recipe, one after the other."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.adapt import chat_template
from vistune.data.dataset import Dataset, open_sources
from vistune.data.encode import Encoder
from vistune.data.source import DataSource
from vistune.interrupt import stop_at_once
from vistune.model.adapters import add_lora, merge_lora
from vistune.model.assemble import image_token_count
from vistune.model.checkpoint import save_checkpoint
from vistune.model.light import Backbones, open_checkpoint, save_light, starting_point
from vistune.recipe.training import LoraRecipe, Recipe, StageRecipe
from vistune.storage import storage_errors
from vistune.train.compiled import check_compiler, compile_layers
from vistune.train.distributed import decide, end_processes, main_first, start_processes
from vistune.train.features import open_features, remove_features
from vistune.train.finished import check_start, tidy, unfinished_stages
from vistune.train.half import hold_half, is_held_half, restore
from vistune.train.loop import train_stage
from vistune.train.resume import check_processes, check_recipe, save_recipe
from vistune.train.stages import freeze
from vistune.train.trackers import check_trackers

_FEATURES = ".features"
"""The run's folder of features of its frozen vision tower, until the run is finished; no stage can have this name."""


def train(recipe: Recipe, out: Path) -> Path:
    """Train all stages of `recipe`; returns the last one's checkpoint, `out/<stage name>`.

    A finished stage is skipped and an interrupted one goes on, so the same call finishes a run that was ended at
    any moment, with the same weights. A damaged checkpoint is named on stderr and made again from its stage's state.
    Raises RecipeError if `out` holds a run of another recipe, DataError for data that cannot be used (looked through
    before anything is trained), CheckpointError for a backbone, StorageError if the disk is full, Stopped if a signal
    ended it.
    """
    bound_kernel_caches()
    with stop_at_once(), storage_errors(out):
        checkpoint = _train(recipe, out)
    end_processes()
    return checkpoint


def _train(recipe: Recipe, out: Path) -> Path:
    accelerator = start_processes()
    folders = [out / stage.name for stage in recipe.stages]

    def begin() -> list[int]:
        check_processes(recipe, accelerator.num_processes)
        check_recipe(recipe, out)
        check_trackers(recipe)
        if recipe.compile:
            check_compiler()
        unfinished = unfinished_stages(folders)
        if recipe.start and 0 in unfinished:
            check_start(Path(recipe.start))
        return unfinished

    numbers = decide(accelerator, begin)
    data = main_first(accelerator, lambda: {n: _open_data(recipe.stages[n], accelerator) for n in numbers})
    for n in numbers:
        base = folders[n - 1] if n else starting_point(recipe)
        _run(base, recipe, recipe.stages[n], data[n], accelerator, folders[n])
        decide(accelerator, partial(tidy, folders[: n + 1]))
    decide(accelerator, lambda: remove_features(out / _FEATURES))
    return folders[-1]


def _open_data(stage: StageRecipe, accelerator: Accelerator) -> list[list[DataSource]]:
    """The training data and the validation data of a stage."""
    return [
        open_sources(entries, skip_bad_records=stage.skip_bad_records, tell=accelerator.print)
        for entries in (stage.sources(), stage.sources(validation=True))
    ]


def bound_kernel_caches() -> None:
    """Have oneDNN forget what it compiled for old shapes of bf16 products on the CPU.

    By default it keeps a thousand, and with batches of all lengths memory grows by gigabytes over a run. Takes
    effect only before the process computes its first such product; a user's own setting stays.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # one bounds nothing without the other
        os.environ.setdefault(cache, "32")


def _run(
    base: Path | Backbones,
    recipe: Recipe,
    stage: StageRecipe,
    data: list[list[DataSource]],
    accelerator: Accelerator,
    folder: Path,
) -> None:
    """Train a stage that starts from a checkpoint or the backbones."""
    model, processor = _open(base)
    if "lora" in stage.trains:
        add_lora(model, stage.lora or LoraRecipe(), recipe.seed, bf16=recipe.precision == "bf16")
    template = chat_template(processor.tokenizer, stage.template) if stage.template else str(processor.chat_template)
    encoder = Encoder(processor.tokenizer, template, image_token_count(model.config))
    dataset, *held_out = [Dataset(one, encoder, stage.max_length, tell=accelerator.print) for one in data if one]
    told = dataset.summary()
    for line in told:
        accelerator.print(f"{stage.name}: {line}")
    decide(accelerator, lambda: save_recipe(recipe, folder.parent))
    kept = open_features(recipe, stage, model, processor, folder.parent / _FEATURES)
    freeze(model, stage.trains)
    if recipe.precision == "bf16":
        hold_half(model)
    if recipe.compile:
        compile_layers(model)
    train_stage(
        model, processor, dataset, stage, accelerator=accelerator, bf16=recipe.precision == "bf16",
        seed=recipe.seed, folder=folder, kept=kept, held_out=held_out[0] if held_out else None, project=recipe.name,
        log_to=recipe.log_to,
    )  # fmt: skip
    if kept is not None:
        kept.close()
    for line in dataset.summary():
        if line not in told:
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
        save_light(model, folder, base)
    else:
        if "lora" in stage.trains and "vision" not in stage.trains:
            save_light(model, folder / "adapter", base)
        if is_held_half(model):
            restore(model, _open(base)[0])
        merge_lora(model)
        save_checkpoint(model, processor, folder, getattr(torch, recipe.save_dtype))
