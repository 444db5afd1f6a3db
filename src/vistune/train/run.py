"""A whole training run: the stages of a recipe, one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import is_torch_version  # type: ignore[import-untyped]
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.source import DataSource
from vistune.errors import CheckpointError, RecipeError
from vistune.interrupt import stop_at_once
from vistune.model.adapter_checkpoint import Backbones, Base, open_checkpoint, save_adapter_checkpoint, starting_point
from vistune.model.adapters import merge_lora
from vistune.model.checkpoint import BASE, is_complete, mark_unfinished, save_checkpoint
from vistune.model.familiar import known_to, note_on
from vistune.output_folder import locked
from vistune.printable import print_line, printable
from vistune.recipe import schema
from vistune.recipe.training import Recipe, StageRecipe
from vistune.storage import MANIFEST, find_damage, storage_errors
from vistune.train.distributed import decide, end_processes, is_sharded, main_first, start_processes
from vistune.train.features import open_features, remove_features
from vistune.train.frozen_half import half_dtype, half_weights, hold_in_half, restore_float32
from vistune.train.log import check_trackers
from vistune.train.loop import Evaluate, train_stage
from vistune.train.optimizer import check_optimizer
from vistune.train.resume import keep_newest, newest_state
from vistune.train.stages import open_stage_data, prepare_stage
from vistune.train.target_loss import check_attention, check_compiler

_FEATURES = ".features"
"""The run's folder of features of its frozen vision tower, until the run is finished; no stage can have this name."""
_FREE = (
    "log_to",
    "log_every",
    "show_answers",
    "checkpoint_every",
    "micro_batch_size",
    "feature_cache_gb",
    "compile",
    "evaluation",
)
"""Keys that may change when a run continues: they do not change the result, or only by rounding."""
_RECIPE = "recipe.yaml"
_SIGNS = ("state", "log.jsonl", MANIFEST)
"""What a stage's folder has before, or with, the first file of its checkpoint."""
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "adapter")


def train(recipe: Recipe, out: Path, evaluate: Evaluate | None = None) -> Path:
    """Train all stages of `recipe`; returns the last one's checkpoint, `out/<stage name>`.

    A finished stage is skipped and an interrupted one continues, so the same call finishes a run that was ended at
    any moment, with the same weights. A damaged checkpoint is named on stderr and made again from its stage's state.
    `evaluate` scores the model in stages with `evaluate_every`.
    Raises RecipeError if `out` holds a run of another recipe or files of the user's that it would replace, VistuneError
    if another run is using it, DataError for data that cannot be used (checked before
    anything is trained), CheckpointError for a backbone, TrainingError for a loss that is not finite, StorageError if
    the disk is full, Stopped if a signal ended it.
    """
    bound_kernel_caches()
    torch.backends.cuda.matmul.allow_tf32 = recipe.tf32
    with stop_at_once(), storage_errors(out), ExitStack() as stack:
        accelerator = start_processes()
        decide(accelerator, lambda: stack.enter_context(locked(out)))
        checkpoint = _train(recipe, out, accelerator, evaluate)
    end_processes()
    return checkpoint


def bound_kernel_caches() -> None:
    """Have oneDNN forget what it compiled for old shapes of bf16 products on the CPU.

    By default it keeps a thousand, and with batches of all lengths memory grows by gigabytes over a run. Takes
    effect only before the process computes its first such product; a user's own setting stays.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # one bounds nothing without the other
        os.environ.setdefault(cache, "32")


def _train(recipe: Recipe, out: Path, accelerator: Accelerator, evaluate: Evaluate | None) -> Path:
    folders = [out / stage.name for stage in recipe.stages]
    numbers = decide(accelerator, lambda: _check(recipe, out, folders, accelerator.num_processes))
    data = main_first(accelerator, lambda: {n: open_stage_data(recipe.stages[n], accelerator.print) for n in numbers})
    for n in numbers:
        base = folders[n - 1] if n else starting_point(recipe)
        _run_stage(base, recipe, recipe.stages[n], data[n], accelerator, folders[n], evaluate)
        decide(accelerator, partial(_remove_old_states, folders[: n + 1]))
    decide(accelerator, lambda: remove_features(out / _FEATURES))
    return folders[-1]


def _check(recipe: Recipe, out: Path, folders: list[Path], processes: int) -> list[int]:
    """The numbers of the stages to train. Raises what can be known before any data or weights are read."""
    for stage in recipe.stages:
        check_optimizer(stage)
        if stage.batch_size < processes:
            what = f"{stage.batch_size} conversations cannot be shared out to {processes} processes"
            fix = f"a batch_size of at least {processes}, or fewer processes"
            raise RecipeError(what, where=f"stages.{stage.name}.batch_size", fix=fix)
        if stage.evaluate_every and is_sharded():
            fix = "leave out evaluate_every, or train whole copies (DDP)"
            raise RecipeError("sharded weights (FSDP) cannot generate", where=f"stages.{stage.name}", fix=fix)
    check_recipe(recipe, out)
    check_trackers(recipe)
    check_attention(recipe)
    if recipe.compile:
        check_compiler()
    for folder in folders:
        _check_own(folder)
    unfinished = _unfinished_stages(folders)
    start = Path(recipe.start or "")
    if recipe.start and 0 in unfinished and (start / MANIFEST).exists() and (damage := find_damage(start)):
        raise CheckpointError(
            f"the checkpoint to start from is damaged: {damage}", fix="copy it again, or start from another"
        )
    return unfinished


def _run_stage(
    base: Base, recipe: Recipe, stage: StageRecipe, data: list[list[DataSource]], accelerator: Accelerator,
    folder: Path, evaluate: Evaluate | None,
) -> None:  # fmt: skip
    """Train a stage that starts from a checkpoint or the backbones, and save its checkpoint."""
    quantized = bool(stage.lora and stage.lora.quantize)  # on its way to the device: each process reads the weights
    model, processor = _open(base, weights=accelerator.is_main_process or quantized)
    dataset, *validation_data = prepare_stage(recipe, stage, model, processor, data, output=accelerator.print)
    summary = dataset.summary()
    for line in summary:
        accelerator.print(printable(f"{stage.name}: {line}"))
    if note := note_on(known_to(model.config), [entry.images for entry in stage.sources()]):
        accelerator.print(f"{stage.name}: {note}")
    decide(accelerator, lambda: _save_recipe(recipe, folder.parent))
    features = open_features(recipe, stage, model, processor, folder.parent / _FEATURES, accelerator)
    half = half_dtype(recipe)
    if half and not (is_sharded() and is_torch_version("<", "2.8")):  # torch 2.7 shards weights of one dtype only
        hold_in_half(model, decide(accelerator, lambda: list(half_weights(model, half))), half)
    train_stage(
        model, processor, dataset, recipe, stage, accelerator=accelerator, folder=folder, feature_cache=features,
        validation_data=validation_data[0] if validation_data else None, evaluate=evaluate,
    )  # fmt: skip
    if features is not None:
        features.close()
    for line in dataset.summary():
        if line not in summary:
            accelerator.print(printable(f"{stage.name}: {line}"))
    decide(accelerator, lambda: _save(model, processor, recipe, stage, base, folder))
    accelerator.free_memory()


def _open(base: Base, *, weights: bool = True) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    if isinstance(base, Backbones):
        return base.assemble(weights=weights)
    return open_checkpoint(base, one_layer=True, weights=weights)


def _save(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, recipe: Recipe, stage: StageRecipe,
    base: Base, folder: Path,
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


def check_recipe(recipe: Recipe, out: Path) -> None:
    """Raises RecipeError, naming what differs, if a run of another recipe has trained something in `out`."""
    path = out / _RECIPE
    if not path.exists():
        return
    try:
        earlier = schema.load(Recipe, path)
    except RecipeError as error:  # also a recipe of another kind, which a run must not replace either
        fix = "choose another output folder, or remove this file if the folder's training is of the same recipe"
        raise RecipeError(error.what, where=error.where, fix=fix) from None
    before, now = _flat(earlier.model_dump()), _flat(recipe.model_dump())
    if recipe != earlier and not schema.is_written(path):
        fix = "choose another output folder, or rename this file: the run writes its recipe there"
        raise RecipeError("this is another recipe than the one to train", where=str(path), fix=fix)
    changed = [
        f"{key} was {before.get(key, 'not there')!r}, is {now.get(key, 'not there')!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and not {key.partition(".")[0], key.rpartition(".")[2]} & {*_FREE}
    ]
    trained = any(any(folder.glob("state/step-*")) or is_complete(folder) for folder in out.iterdir())
    if changed and trained:
        fix = "choose another output folder, or delete this one to train anew"
        raise RecipeError(f"a run with another recipe is there: {'; '.join(changed)}", where=str(out), fix=fix)


def _check_own(folder: Path) -> None:
    """Raise CheckpointError if a stage's folder has files of a model, and no sign of this training."""
    if is_complete(folder) or any((folder / name).exists() for name in _SIGNS):
        return
    if other := next((file for pattern in _MODEL_FILES for file in sorted(folder.glob(pattern))), None):
        fix = "choose another output folder, or another name for the stage"
        raise CheckpointError("the stage's checkpoint would replace this file", where=str(other), fix=fix)


def _save_recipe(recipe: Recipe, out: Path) -> None:
    """Write the recipe into `out`, as soon as nothing but the training itself can fail any more.

    A file that says the same stays, as it may be the user's own, with comments.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / _RECIPE
    if not path.exists() or schema.load(Recipe, path) != recipe:
        schema.save(recipe, path)


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key; stages by their name, the files of a stage's data by their number."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = {item.get("name", str(number)): item for number, item in enumerate(content)}
    if not isinstance(content, dict):
        return {prefix: content}
    return {
        key: value
        for name, item in content.items()
        for key, value in _flat(item, f"{prefix}.{name}" if prefix else name).items()
    }


def _unfinished_stages(folders: Sequence[Path]) -> list[int]:
    """The numbers of the stages that have to be trained, in order, to get the last one's checkpoint.

    A checkpoint that is needed (as the result, to start a stage from, as the base of adapters) is compared with its
    manifest. A damaged one is named on stderr, and its stage continues from its newest state; raises CheckpointError
    if it has none.
    """
    unfinished = []
    for number in reversed(range(len(folders))):
        finished = _is_finished(folders[number])
        if not finished:
            unfinished.append(number)
        elif not (folders[number] / BASE).exists():
            break  # nothing before it is needed
    return unfinished[::-1]


def _is_finished(folder: Path) -> bool:
    complete = is_complete(folder)
    if not complete and not (folder / MANIFEST).exists():
        return False  # no file of a checkpoint has been written
    separate = folder / "adapter"
    damage = find_damage(folder) or (find_damage(separate) if separate.exists() else None)
    if damage is None:
        return True
    state = newest_state(folder / "state")
    if complete and state is None:
        fix = f"restore the file, or delete {folder} to train this stage anew"
        raise CheckpointError(f"damaged checkpoint, and its stage has no state left: {damage}", fix=fix)
    print_line(f"damaged checkpoint: {damage}; it is made again from {state or 'the start of its stage'}", error=True)
    mark_unfinished(folder)
    return False


def _remove_old_states(folders: Sequence[Path]) -> None:
    """Remove all states of these finished stages but the last one's newest, to repair its checkpoint from."""
    keep_newest(folders[-1] / "state", 1)
    for folder in folders[:-1]:
        keep_newest(folder / "state", 0)
