"""The state that an interrupted stage goes on from, bit for bit, however it ended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vistune.data.encode import Sample
from vistune.errors import RecipeError
from vistune.recipe import Recipe, load_recipe, save_recipe


def save_state(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Keep the state after `step` steps. It is complete as soon as it has its name; older ones are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in folder.glob("step-*.pt"):
        if old != path:
            old.unlink()


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest complete state, or None."""
    paths = sorted(folder.glob("step-*.pt"))
    if not paths:
        return None
    state: dict[str, Any] = torch.load(paths[-1], map_location="cpu", weights_only=True)
    return state


def fingerprint(samples: Sequence[Sample]) -> str:
    """A hash of the encoded data, so that a run never goes on with other data than it began with."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.images}\0{len(sample.input_ids)}\0".encode())
        digest.update(sample.input_ids.tobytes() + sample.targets.tobytes())
    return digest.hexdigest()


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
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), "utf-8")
    partial.replace(path)


def check_recipe(recipe: Recipe, out: Path) -> None:
    """Keep the recipe in `out`. Raises RecipeError, naming what changed, if another run was begun there."""
    path = out / "recipe.yaml"
    if not path.exists():
        partial = out / "recipe.partial"
        save_recipe(recipe, partial)
        partial.replace(path)
        return
    before, now = _flat(load_recipe(path).model_dump()), _flat(recipe.model_dump())
    changed = [
        f"{key} was {before.get(key, 'not there')!r}, is {now.get(key, 'not there')!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changed:
        fix = "choose another output folder, or delete this one to train anew"
        raise RecipeError(f"a run with another recipe is there: {'; '.join(changed)}", where=str(out), fix=fix)


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key; stages by their name."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = {item["name"]: item for item in content}
    if not isinstance(content, dict):
        return {prefix: content}
    return {
        key: value
        for name, item in content.items()
        for key, value in _flat(item, f"{prefix}.{name}" if prefix else name).items()
    }
