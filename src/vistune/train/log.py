"""Where the training's figures go: log.jsonl, the trackers, and the screen."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vistune.recipe.training import TrackerName
from vistune.train.resume import trim_log
from vistune.train.trackers import open_trackers


class Log:
    """Writes a stage's figures; begins after `done` steps, forgetting what an interrupted run wrote beyond them.

    On a terminal the screen shows a bar, elsewhere plain lines. `silent` processes write nothing.
    """

    def __init__(
        self, folder: Path, done: int, total: int, *, silent: bool, project: str, log_to: Sequence[TrackerName]
    ) -> None:
        self._silent, self._name, self._total = silent, folder.name, total
        self._since, self._steps, self._samples, self._tokens = time.perf_counter(), 0, 0, 0.0
        if silent:
            return
        folder.mkdir(parents=True, exist_ok=True)
        trim_log(folder / "log.jsonl", done)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._trackers = open_trackers(log_to, folder, project, done)
        self._console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(self._name, total=total, completed=done)

    def __enter__(self) -> Log:
        if not self._silent:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._silent:
            return
        with ExitStack() as closing:  # each is closed, even if another cannot be on a full disk
            for end in (self._bar.stop, self._file.close, *(tracker.close for tracker in self._trackers)):
                closing.callback(end)

    def step(self, step: int, samples: int, tokens: float) -> None:
        """One more step is done, of so many samples and tokens over all processes."""
        self._steps, self._samples, self._tokens = self._steps + 1, self._samples + samples, self._tokens + tokens
        if not self._silent:
            self._bar.update(self._task, completed=step)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures after `step` steps, with the name of their kind before them: train/loss, val/loss."""
        if self._silent:
            return
        line = {name.removeprefix("train/").replace("/", "_"): value for name, value in figures.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.write(step, figures)
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{self._name}  loss {line.get('loss', line.get('val_loss')):.3f}")
        else:
            told = "  ".join(f"{key} {value:.4g}" for key, value in line.items())
            self._console.print(f"{self._name} {step}/{self._total}  {told}", highlight=False, soft_wrap=True)

    def speed(self) -> dict[str, float]:
        """How fast it went since this was last asked, in real time, and the most memory that this process has taken.

        A beginning that conversations share is computed, and counted in the tokens, once.
        """
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        figures = {
            "train/samples_per_second": self._samples / seconds,
            "train/tokens_per_second": self._tokens / seconds,
            "train/peak_memory_gb": _peak_memory() / 2**30,
        }
        self._steps, self._samples, self._tokens = 0, 0, 0.0
        return figures


def _peak_memory() -> float:
    """The most bytes that this process has had, of the GPU's memory where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
