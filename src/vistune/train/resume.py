"""The state from which an interrupted stage continues, bit for bit, however it ended."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vistune.errors import CheckpointError, DataError
from vistune.storage import atomic_folder, atomic_text, find_damage
from vistune.train.distributed import decide, gathered, laid_out

_KEPT = 2
"""Number of states that a stage keeps while it trains: a damaged one has one before it."""
_WEIGHTS, _MOMENTS, _PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"


@dataclass
class Progress:
    """The progress of a stage. It holds no random states, as every step begins with its own seed."""

    data: str
    """The fingerprint of the stage's data."""
    done: int = 0
    """Number of finished steps; the data's order and the learning rate are functions of it."""
    loss_sum: float = 0.0
    """Summed over the targets since the last line of the log."""
    targets: int = 0
    """Number of these targets, or pairs."""
    figures: dict[str, float] = field(default_factory=dict)
    """Sums of further figures over the same."""
    best_loss: float = math.inf
    """The lowest validation loss; like all below, for early stopping only."""
    best_step: int = 0
    """Number of finished steps at the lowest loss, of which there is a state."""
    stale: int = 0
    """Number of validation losses since then."""

    def add(self, loss_sum: float, targets: int, figures: Mapping[str, float]) -> None:
        """Add a step's sums."""
        self.loss_sum += loss_sum
        self.targets += targets
        for name, value in figures.items():
            self.figures[name] = self.figures.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The mean loss and the further figures since the last call."""
        sums = {"loss": self.loss_sum, **self.figures}
        means = {name: value / self.targets for name, value in sums.items()}
        self.loss_sum, self.targets, self.figures = 0.0, 0, {}
        return means

    def improved(self, loss: float) -> bool:
        """Record a validation loss; returns whether it is the lowest so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.stale = loss, self.done, 0
        else:
            self.stale += 1
        return self.stale == 0


def save_state(
    folder: Path, progress: Progress, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """Save the state in `folder`, as a folder of its own that is whole as soon as it has its name.

    It holds the trained `weights`, the optimizer's moments and the progress. The newest two states stay. All processes
    have to call this; the main one writes, the same files whatever their number and the layout of the weights. Raises
    StorageError if the disk is full; the older states are then as they were.
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
    stay = states[len(states) - count :]
    stay += [_best_state(state) for state in stay]
    for old in states:
        if old not in stay:
            shutil.rmtree(old)


def _best_state(state: Path) -> Path:
    """The path of the state that `state` names as the best, if it names one."""
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
    lines = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line + "\n")
        except ValueError:
            break
    with atomic_text(path) as file:
        file.writelines(lines)
