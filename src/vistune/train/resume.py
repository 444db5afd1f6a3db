"""The state that an interrupted stage goes on from, bit for bit, however it ended."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vistune.errors import CheckpointError, DataError, RecipeError
from vistune.model.checkpoint import is_complete
from vistune.recipe import schema
from vistune.recipe.training import Recipe
from vistune.storage import atomic_folder, atomic_text, find_damage
from vistune.train.distributed import decide, gathered, laid_out

_KEPT = 2
"""How many states a stage keeps while it trains: a damaged one has one before it."""
_FREE = ("log_to", "log_every", "checkpoint_every", "micro_batch_size", "feature_cache_gb", "compile")
"""What a run may go on with changed: it makes no difference to the result, or only one of rounding."""
_RECIPE = "recipe.yaml"
_WEIGHTS, _MOMENTS, _PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"


@dataclass
class Progress:
    """How far a stage is. (Random states need no place here: every step begins with its own seed.)"""

    data: str
    """The fingerprint of the stage's data."""
    done: int = 0
    """The steps that are done; the data's order and the learning rate are functions of it."""
    loss_sum: float = 0.0
    """Over the targets since the last line of the log."""
    targets: int = 0
    """Their number."""
    best_loss: float = math.inf
    """The lowest validation loss; with early stopping only, as all below."""
    best_step: int = 0
    """The steps that were done at it; there is a state of them."""
    stale: int = 0
    """How many validation losses there were since."""

    def improved(self, loss: float) -> bool:
        """Note a validation loss; whether it is the lowest so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.stale = loss, self.done, 0
        else:
            self.stale += 1
        return self.stale == 0


def save_state(
    folder: Path,
    progress: Progress,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> None:
    """Keep the state in `folder`, as a folder of its own that is whole as soon as it has its name.

    It holds the trained `weights`, what the optimizer knows of each, and the progress. The newest two stay. All
    processes have to call this; the main one writes, the same files whatever their number and however the weights
    are laid out. Raises StorageError if the disk is full; the older states are then as they were.
    """
    moments = {
        f"{name}.{key}": value for name, weight in weights.items() for key, value in optimizer.state[weight].items()
    }
    main = accelerator.is_main_process
    whole = gathered(weights, keep=main), gathered(moments, keep=main)

    def write() -> None:
        with atomic_folder(folder / _name(progress.done)) as partial:
            save_file(whole[0], partial / _WEIGHTS)
            save_file(whole[1], partial / _MOMENTS)
            (partial / _PROGRESS).write_text(json.dumps(asdict(progress)), "utf-8")
        keep_newest(folder, _KEPT)

    decide(accelerator, write)


def keep_newest(folder: Path, count: int) -> None:
    """Remove all states of `folder` but the newest `count` and those that they name as the best."""
    states = _states(folder)
    kept = states[len(states) - count :]
    kept += [best_state(state) for state in kept]
    for old in states:
        if old not in kept:
            shutil.rmtree(old)


def best_state(state: Path) -> Path:
    """Where the state is that `state` names as the best, if it names one."""
    try:
        step = int(json.loads((state / _PROGRESS).read_text("utf-8"))["best_step"])
    except (OSError, ValueError, KeyError):  # it is damaged
        step = 0
    return state.with_name(_name(step))


def newest_state(folder: Path) -> Path | None:
    """The newest undamaged state of `folder`, or None. A damaged one is named on stderr and removed."""
    for path in reversed(_states(folder)):
        damage = find_damage(path)
        if damage is None:
            return path
        print(f"damaged state: {damage}; the one before is used", file=sys.stderr)
        shutil.rmtree(path)
    return None


def load_state(
    path: Path, data: str, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Progress:
    """Put the state in `path` into `weights` and `optimizer`; all processes have to read it.

    Raises DataError if it was trained on data of another fingerprint than `data`.
    """
    progress = Progress(**json.loads((path / _PROGRESS).read_text("utf-8")))
    if progress.data != data:
        fix = "restore the data, or delete this folder to train the stage anew"
        raise DataError("the data changed since the training was interrupted", where=str(path.parent.parent), fix=fix)
    load_weights(path, weights)
    with safe_open(path / _MOMENTS, "pt") as file:
        for key in file.keys():  # noqa: SIM118, it is no mapping
            name, _, moment = key.rpartition(".")
            optimizer.state[weights[name]][moment] = laid_out(file.get_tensor(key), weights[name])
    return progress


def best_weights(folder: Path, progress: Progress) -> Path:
    """The state with the lowest validation loss. Raises CheckpointError if it is damaged."""
    path = folder / _name(progress.best_step)
    if damage := find_damage(path):
        fix = f"restore the file, or delete {folder.parent} to train the stage anew"
        raise CheckpointError(f"the state with the lowest validation loss is damaged: {damage}", fix=fix)
    return path


def load_weights(path: Path, weights: Mapping[str, nn.Parameter]) -> None:
    """Put the weights of the state in `path` into `weights`; all processes have to read it."""
    with safe_open(path / _WEIGHTS, "pt") as file, torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(laid_out(file.get_tensor(name), weight))


def _name(step: int) -> str:
    return f"step-{step:08}"


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def trim_log(path: Path, step: int) -> None:
    """Remove the log's lines after `step`, and a line that was cut off: they will be written again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    with atomic_text(path) as file:
        file.writelines(kept)


def check_recipe(recipe: Recipe, out: Path) -> None:
    """Raises RecipeError, naming what differs, if a run of another recipe has trained something in `out`."""
    path = out / _RECIPE
    if not path.exists():
        return
    earlier = schema.load(Recipe, path)  # fails for a recipe of another kind, which a run must not replace either
    before, now = _flat(earlier.model_dump()), _flat(recipe.model_dump())
    changed = [
        f"{key} was {before.get(key, 'not there')!r}, is {now.get(key, 'not there')!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and key.rpartition(".")[2] not in _FREE
    ]
    if changed and _has_trained(out):
        fix = "choose another output folder, or delete this one to train anew"
        raise RecipeError(f"a run with another recipe is there: {'; '.join(changed)}", where=str(out), fix=fix)


def save_recipe(recipe: Recipe, out: Path) -> None:
    """Write the recipe into `out`, as soon as nothing but the training itself can fail any more."""
    out.mkdir(parents=True, exist_ok=True)
    schema.save(recipe, out / _RECIPE)


def _has_trained(out: Path) -> bool:
    return any(any(folder.glob("state/step-*")) or is_complete(folder) for folder in out.iterdir())


def check_processes(recipe: Recipe, processes: int) -> None:
    """Raises RecipeError if a stage's batches have not a conversation for every process."""
    for stage in recipe.stages:
        if stage.batch_size < processes:
            what = f"{stage.batch_size} conversations cannot be shared out to {processes} processes"
            fix = f"a batch_size of at least {processes}, or fewer processes"
            raise RecipeError(what, where=f"stages.{stage.name}.batch_size", fix=fix)


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
