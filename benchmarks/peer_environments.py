"""Peers that need packages of other versions than ours: each has an environment, made once, and is a process in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

TRAINERS = {"swift": "ms-swift==4.6.0", "llamafactory": "llamafactory==0.9.5"}
ASKERS = {
    "curator": "bespokelabs-curator==0.1.31", "datadesigner": "data-designer==0.9.7",
    "distilabel": "distilabel[openai]==1.5.3 requests",  # which it does not name
}  # fmt: skip
PACKAGES = TRAINERS | ASKERS
ROOT = Path(__file__).parents[1]


class Unavailable(Exception):  # noqa: N818 - a row of the table says so
    """Why a peer cannot be installed, or cannot run here."""


def environment(peer: str, folder: Path) -> Path:
    """The peer's Python, in `folder`; a trainer's has our torch. Raises Unavailable.

    An environment that was only made in part is made anew.
    """
    place = folder / peer
    python, made = place / "bin" / "python", place / "made"
    if not made.exists():
        shutil.rmtree(place, ignore_errors=True)
        pinned = (ROOT / "constraints.txt").read_text().splitlines()
        torch = [line for line in pinned if line.startswith("torch==") and peer in TRAINERS]
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(python), "-m", "pip", "install", "--quiet", *torch, *PACKAGES[peer].split()])
        # their wheels for CUDA do not load beside a torch without; nothing here needs them
        if torch and subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False).returncode:
            _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio"])
        made.touch()
    return python


def run_peer(peer: str, python: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Its figures: seconds, losses, peak_mb. `settings` are what `peer_*.py` beside this file read."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name(f"peer_{peer}.py")
    told = _run([str(python), str(script), json.dumps(settings)], env=environ)
    figures: dict[str, Any] = json.loads(told.splitlines()[-1])
    return figures


def _run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout
