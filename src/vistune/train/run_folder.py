"""A run's folder: whose run it is, which of its stages are finished, and which states are still needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.errors import CheckpointError, RecipeError
from vistune.model.checkpoint import BASE, is_complete, mark_unfinished
from vistune.recipe import schema
from vistune.recipe.training import Recipe
from vistune.storage import MANIFEST, find_damage
from vistune.train.resume import keep_newest, newest_state

_FREE = ("log_to", "log_every", "checkpoint_every", "micro_batch_size", "feature_cache_gb", "compile")
"""Keys that may change when a run continues: they do not change the result, or only by rounding."""
_RECIPE = "recipe.yaml"


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


def unfinished_stages(folders: Sequence[Path]) -> list[int]:
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
    print(f"damaged checkpoint: {damage}; it is made again from {state or 'the start of its stage'}", file=sys.stderr)
    mark_unfinished(folder)
    return False


def check_start(path: Path) -> None:
    """Raises CheckpointError if the checkpoint in `path`, from which a run starts, is damaged."""
    if (path / MANIFEST).exists() and (damage := find_damage(path)):
        raise CheckpointError(f"the checkpoint to start from is damaged: {damage}")


def remove_old_states(folders: Sequence[Path]) -> None:
    """Remove all states of these finished stages but the last one's newest, to repair its checkpoint from."""
    keep_newest(folders[-1] / "state", 1)
    for folder in folders[:-1]:
        keep_newest(folder / "state", 0)
