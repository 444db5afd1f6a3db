"""Where the training's figures go: log.jsonl, TensorBoard, and the screen."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from vistune.train.resume import trim_log


class Log:
    """Writes a stage's figures; begins after `done` steps, forgetting what an interrupted run wrote beyond them.

    On a terminal the screen shows a bar, elsewhere plain lines. `silent` processes write nothing.
    """

    def __init__(self, folder: Path, name: str, done: int, total: int, *, silent: bool) -> None:
        self._silent, self._name, self._total = silent, name, total
        if silent:
            return
        folder.mkdir(parents=True, exist_ok=True)
        trim_log(folder / "log.jsonl", done)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
        self._console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(name, total=total, completed=done)

    def __enter__(self) -> Log:
        if not self._silent:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._silent:
            self._bar.stop()
            self._file.close()
            self._board.close()

    def step(self, step: int) -> None:
        """One more step is done."""
        if not self._silent:
            self._bar.update(self._task, completed=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """The figures after `step` steps."""
        if self._silent:
            return
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        for key, value in figures.items():
            self._board.add_scalar(f"train/{key}", value, step)
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{self._name}  loss {figures['loss']:.3f}")
        else:
            told = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            self._console.print(f"{self._name} {step}/{self._total}  {told}", highlight=False, soft_wrap=True)
