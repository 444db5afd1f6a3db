"""Where the figures are looked at: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vistune.errors import MissingPackageError
from vistune.recipe.training import Recipe, TrackerName


class Tracker(Protocol):
    """Takes figures like `train/loss` after a step."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures after `step` steps."""

    def close(self) -> None:
        """No more will come."""


class TensorBoard:
    """Event files in the stage's folder; what an interrupted run wrote after `done` steps is not shown."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()


class Dashboard:
    """A package with W&B's interface (`wandb`, `trackio`); a stage that goes on is the same run there."""

    def __init__(self, package: str, project: str, name: str, **more: Any) -> None:
        self._run = importlib.import_module(package).init(project=project, name=name, resume="allow", **more)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """All of a step's figures at once."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run there."""
        self._run.finish()


def check_trackers(recipe: Recipe) -> None:
    """Raises MissingPackageError if a package that the recipe logs to is not installed."""
    for name in recipe.log_to:
        if find_spec(name) is None:
            raise MissingPackageError(f"the package {name} is missing", where="log_to", fix=f"pip install {name}")


def open_trackers(names: Sequence[TrackerName], folder: Path, project: str, done: int) -> list[Tracker]:
    """The trackers of a stage by their names; `folder` is the stage's, `done` its steps so far."""
    name = f"{folder.parent.name}-{folder.name}"
    number = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]  # the same when the stage goes on
    trackers: list[Tracker] = []
    for tracker in names:
        if tracker == "tensorboard":
            trackers.append(TensorBoard(folder, done))
        elif tracker == "wandb":
            trackers.append(Dashboard(tracker, project, name, id=f"{name}-{number}", dir=str(folder)))
        else:  # trackio tells runs apart by their names
            trackers.append(Dashboard(tracker, project, f"{name}-{number}"))
    return trackers
