"""Where the training's figures go: log.jsonl, the terminal, and Accelerate's trackers."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # type: ignore[import-untyped]
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vistune.data.collate import Batch
from vistune.errors import require
from vistune.recipe.training import Recipe, TrackerName
from vistune.terminal import Terminal
from vistune.train.flops import NO_WORK, Work, work_of
from vistune.train.held_out import HeldOutAnswer
from vistune.train.resume import trim_log


class Log:
    """Writes a stage's figures, from the `done` steps on; what an interrupted run wrote of later steps is removed.

    On a terminal the screen shows a bar, elsewhere plain lines. `silent` processes write nothing.
    """

    def __init__(
        self, folder: Path, done: int, total: int, *, silent: bool, project: str, log_to: Sequence[TrackerName],
        operations: Callable[[Work], float] | None = None, peak: float | None = None,
    ) -> None:  # fmt: skip
        """`operations` counts those of a process's work; with its `peak` a second, their share of it is logged."""
        self._silent, self._name, self._total = silent, folder.name, total
        self._since, self._samples, self._tokens = time.perf_counter(), 0, 0.0
        self._operations, self._peak, self._work = operations, peak, list[Work]()
        if silent:
            return
        folder.mkdir(parents=True, exist_ok=True)
        trim_log(folder / "log.jsonl", done)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._trackers = [_open_tracker(name, folder, project, done) for name in log_to]
        self._console = Terminal()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(self._name, total=total, completed=done)

    def __enter__(self) -> Log:
        if not self._silent:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._silent:
            return
        with ExitStack() as closing:  # each is closed, even if another cannot be on a full disk
            for end in (self._bar.stop, self._file.close, *(tracker.finish for tracker in self._trackers)):
                closing.callback(end)

    def step(self, step: int, samples: int, tokens: float, batches: Iterable[Batch]) -> None:
        """Count a finished step: its samples and tokens over all processes, and this process's own batches."""
        self._samples, self._tokens = self._samples + samples, self._tokens + tokens
        if self._peak:
            self._work += map(work_of, batches)
        if not self._silent:
            self._bar.update(self._task, completed=step)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures after `step` steps; their names begin with their kind: train/loss, val/loss."""
        if self._silent:
            return
        line = {_key(name): value for name, value in figures.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(dict(figures), step=step)
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{self._name}  loss {line.get('loss', line.get('val_loss')):.3f}")
        else:
            text = "  ".join(f"{key} {value:.4g}" for key, value in line.items())
            self._console.print(f"{self._name} {step}/{self._total}  {text}", highlight=False, soft_wrap=True)

    def show(self, step: int, answers: Sequence[HeldOutAnswer]) -> None:
        """Show answers to held-out questions, with their images, in TensorBoard and W&B."""
        if self._silent or not answers:
            return
        for tracker in self._trackers:
            if tracker.name == "tensorboard":
                for one in answers:
                    tracker.log({f"answers/{one.id}": one.markdown()}, step=step)
                    picture = np.asarray(one.picture)[None]  # (1, H, W, 3)
                    tracker.log_images({f"images/{one.id}": picture}, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                image: Any = require("wandb", "", "logging to wandb", where="log_to").Image
                rows = [[one.id, image(one.picture), one.question, one.reference, one.answer] for one in answers]
                columns = ["id", "image", "question", "reference", "answer"]
                tracker.log_table("answers", columns=columns, data=rows, step=step)

    def speed(self) -> dict[str, float]:
        """The throughput in real time since the last call, and this process's peak memory.

        A prefix that conversations share is computed, and counted in the tokens, once. `mfu` is the share of the
        operations per second that the GPU promises, if it is known; what is computed again counts once.
        """
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        figures = {
            "train/samples_per_second": self._samples / seconds,
            "train/tokens_per_second": self._tokens / seconds,
        }
        if peak := torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory():
            figures["train/peak_memory_gb"] = peak / 2**30
        if self._peak and self._operations and self._work:
            figures["train/mfu"] = self._operations(sum(self._work, NO_WORK)) / (seconds * self._peak)
        self._samples, self._tokens, self._work = 0, 0.0, []
        return figures


def _key(name: str) -> str:
    """The key in the log: without the usual train/, as in loss, rewards/chosen; else val_loss."""
    return name.removeprefix("train/") if name.startswith("train/") else name.replace("/", "_")


def check_trackers(recipe: Recipe) -> None:
    """Raises MissingPackageError if a package that the recipe logs to is not installed."""
    for name in recipe.log_to:
        require(name, "", f"logging to {name}", where="log_to")


def _open_tracker(name: TrackerName, folder: Path, project: str, done: int) -> Any:
    """Accelerate's tracker of a stage; a stage that continues is the same run there.

    TensorBoard hides what an interrupted run wrote after `done` steps; the others ignore steps they have.
    """
    run = f"{folder.parent.name}-{folder.name}"
    number = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]  # the same when the stage continues
    arguments: dict[TrackerName, dict[str, Any]] = {
        "tensorboard": {"run_name": "tensorboard", "logging_dir": folder, "purge_step": done + 1},
        "wandb": {"run_name": project, "name": run, "id": f"{run}-{number}", "dir": str(folder), "resume": "allow"},
        "trackio": {"run_name": project, "name": f"{run}-{number}", "resume": "allow"},  # runs are known by their name
    }
    tracker = LOGGER_TYPE_TO_CLASS[name](**arguments[name])
    tracker.start()
    return tracker


def peak_memory(*, children: bool = False) -> int:
    """The peak memory in bytes of this process, or the largest of its `children`'s; 0 where that is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
