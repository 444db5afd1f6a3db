"""Real processes that are stopped by signals, and real files that cannot grow."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

import pytest

from vistune.recipe import schema
from vistune.train.run import train

# The command line, with all its output into the pipe, and something to do when a file is about to get its name.
CODE = """
import os, sys
pipe = os.open(output, os.O_WRONLY)
os.dup2(pipe, 1), os.dup2(pipe, 2)
from vistune.cli import main

def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(last):
        exec(then)

sys.addaudithook(hook)
sys.exit(main(["train", recipe, "--out", out]))
"""
Run = Callable[..., Any]


@pytest.fixture
def run(start: Any, make_recipe: Any, tmp_path: Path) -> Run:
    """The process and its output, of a run in `tmp_path/run` that does `then` when `last` is about to get its name."""
    schema.save(make_recipe(), tmp_path / "recipe.yaml")
    os.mkfifo(tmp_path / "pipe")

    @contextmanager
    def begin(last: str = "nothing", then: str = "") -> Iterator[tuple[BaseProcess, TextIO]]:
        names = {"recipe": tmp_path / "recipe.yaml", "out": tmp_path / "run", "output": tmp_path / "pipe"}
        process = start(CODE, last=last, then=then, **{name: str(path) for name, path in names.items()})
        with (tmp_path / "pipe").open() as output:
            yield process, output
        process.join()

    return begin


def _states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tune" / "state").iterdir())


def _ends_as(run: Path, finished: Any) -> bool:
    recipe, out = finished
    train(recipe, run)
    return (run / "tune" / "model.safetensors").read_bytes() == (out / "tune" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_with_a_state(
    run: Run, tmp_path: Path, finished: Any, number: signal.Signals
) -> None:
    with run() as (process, output):
        next(line for line in output if line.startswith("tune 3/13"))
        os.kill(process.pid, number)
        text = output.read()
    assert process.exitcode == 128 + number
    newest = _states(tmp_path / "run")[-1]
    step = int(newest.removeprefix("step-"))
    assert f"\nstopped by {number.name} after step {step}/13 of stage tune: the same command resumes" in text
    assert "Traceback" not in text
    assert _ends_as(tmp_path / "run", finished)


def test_a_second_signal_ends_the_run_at_once(run: Run, tmp_path: Path, finished: Any) -> None:
    twice = "import time; os.kill(os.getpid(), 15); time.sleep(1.1); os.kill(os.getpid(), 15); time.sleep(60)"
    with run("tune/state/step-00000008", twice) as (process, output):
        output.read()
    assert process.exitcode == 128 + signal.SIGTERM
    assert [name for name in _states(tmp_path / "run") if name[0] != "."] == ["step-00000004", "step-00000006"]
    assert _ends_as(tmp_path / "run", finished)


@pytest.mark.parametrize("last", ["align/state/step-00000002", "align/tokenizer.json"])
def test_a_signal_between_steps_of_work_ends_the_run_too(run: Run, tmp_path: Path, finished: Any, last: str) -> None:
    with run(last, "os.kill(os.getpid(), 15)") as (process, output):
        text = output.read()
    assert process.exitcode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in text
    assert "Traceback" not in text
    assert _ends_as(tmp_path / "run", finished)


def test_a_full_disk_leaves_the_last_state(run: Run, tmp_path: Path, finished: Any) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    with run("tune/state/step-00000006", full) as (process, output):
        text = output.read()
    assert process.exitcode == 74
    path = tmp_path / "run" / "tune" / "state" / "step-00000008"
    assert f"error: {path}: cannot be written: File too large; the disk has " in text
    assert " bytes left\n  fix: free some space and run the same command" in text
    assert "Traceback" not in text
    assert _states(tmp_path / "run") == ["step-00000004", "step-00000006"]
    assert _ends_as(tmp_path / "run", finished)


def test_a_disk_that_is_full_before_any_state_leaves_nothing_half_written(
    run: Run, tmp_path: Path, finished: Any
) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    with run("align/state/step-00000010", full) as (process, output):
        text = output.read()
    assert process.exitcode == 74
    assert f"error: {tmp_path / 'run' / 'align'}: cannot be written: File too large" in text
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.yaml", "align", ".features"}
    assert _ends_as(tmp_path / "run", finished)
