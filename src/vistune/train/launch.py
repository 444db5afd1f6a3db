"""Trains by the command in processes of its own: one a GPU, or two on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from vistune.errors import StorageError, VistuneError

PROCESSES = torch.cuda.device_count() or min(2, os.cpu_count() or 1)


def train_by_command(recipe: Path, out: Path, overrides: Sequence[str] = ()) -> None:
    """Train a recipe in processes that share each batch; a finished run is left, an interrupted one resumes.

    If the processes cannot connect to each other, a single one resumes. Raises VistuneError if the training fails,
    which then has printed why; StorageError if the disk is full.
    """
    command = ["-m", "vistune.cli", "train", str(recipe), "--out", str(out)]
    for override in overrides:
        command += ["--set", override]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    # products this small take longer on two threads; modules of the working directory must not replace ours
    threads = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "PYTHONSAFEPATH": "1"}
    for before in ([launcher] if PROCESSES > 1 else []) + [[]]:
        code = subprocess.run([sys.executable, *before, *command], env=environment, check=False).returncode
        if code == 0:
            return
    error = StorageError if code == StorageError.exit_code else VistuneError
    raise error("the training did not finish", where=str(out), fix="the same command resumes it")
