"""The state from which an interrupted stage continues, bit for bit, however it ended."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vistune.errors import CheckpointError, DataError
from vistune.printable import print_line
from vistune.reading import WRONG_TYPE
from vistune.storage import atomic_folder, atomic_text, find_damage, storage_errors
from vistune.train.distributed import decide, gathered, laid_out
from vistune.train.optimizer import LossScale

_KEPT = 2
"""Number of states that a stage keeps while it trains: a damaged one has one before it."""
_WEIGHTS, _MOMENTS, _PROGRESS = "weights", "optimizer", "progress.json"
_FILE_SIZE = 4 * 2**30
"""Bytes of a file of tensors, about: what is whole in the memory of the main process at a time."""


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
    scale: LossScale = field(default_factory=lambda: LossScale(1.0))
    """Of the loss, in fp16."""
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
        f"{name}.{key}": torch.as_tensor(value)  # bitsandbytes counts steps in a number
        for name, weight in weights.items()
        for key, value in optimizer.state[weight].items()
    }
    main, path = accelerator.is_main_process, folder / _name(progress.done)
    with ExitStack() as writing:
        partial = writing.enter_context(atomic_folder(path)) if main else path

        def write(whole: Mapping[str, Tensor], name: str) -> None:
            with storage_errors(path):
                save_file(dict(whole), partial / name)

        def finish() -> None:
            (partial / _PROGRESS).write_text(json.dumps(asdict(progress)), "utf-8")
            writing.close()  # now it has its name
            keep_newest(folder, _KEPT)

        for stem, tensors in ((_WEIGHTS, weights), (_MOMENTS, moments)):
            for number, part in enumerate(_files(tensors), 1):
                whole = gathered(part, keep=main)
                decide(accelerator, lambda: write(whole, f"{stem}{f'-{number}' if number > 1 else ''}.safetensors"))  # noqa: B023
        decide(accelerator, finish)


def _files(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors by files, none of which is much larger than `_FILE_SIZE`; at least one."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if size > _FILE_SIZE:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    yield part


def _stored(path: Path, stem: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state's files of weights or of moments, one after the other."""
    for one in sorted(path.glob(f"{stem}*.safetensors")):
        with safe_open(one, "pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no mapping
                yield name, file.get_tensor(name)


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
        print_line(f"damaged state: {damage}; the one before is used", error=True)
        shutil.rmtree(path)
    return None


def load_state(
    path: Path, data: str, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Progress:
    """Put the state in `path` into `weights` and `optimizer`; all processes have to read it.

    Raises DataError if it was trained on data of another fingerprint than `data`.
    """
    content = json.loads((path / _PROGRESS).read_text("utf-8"))
    progress = Progress(**{**content, "scale": LossScale(**content["scale"])})
    if progress.data != data:
        fix = "restore the data, or delete this folder to train the stage anew"
        raise DataError("the data changed since the training was interrupted", where=str(path.parent.parent), fix=fix)
    load_weights(path, weights)
    for key, whole in _stored(path, _MOMENTS):
        name, _, moment = key.rpartition(".")
        number = whole.ndim == 0 and not whole.is_floating_point()
        optimizer.state[weights[name]][moment] = int(whole) if number else laid_out(whole, weights[name])
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
    with torch.no_grad():
        for name, whole in _stored(path, _WEIGHTS):
            weights[name].copy_(laid_out(whole, weights[name]))


def _name(step: int) -> str:
    return f"step-{step:08}"


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def trim_log(path: Path, step: int) -> None:
    """Remove the log's lines after `step`, which will be written again, and those that cannot be read."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        with suppress(*WRONG_TYPE):  # cut off by a kill, or damaged
            if json.loads(line)["step"] <= step:
                lines.append(line + "\n")
    with atomic_text(path) as file:
        file.writelines(lines)
