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
# what its model llava_hf imports; all that it requires are 50 packages more, torchvision among them
EVALUATORS = {
    "lmms_eval": "accelerate datasets decord evaluate loguru pillow pytablewriter pytz sacrebleu tenacity transformers"
}
WITHOUT_REQUIREMENTS = {"lmms_eval": "lmms-eval==0.7.3"}
PACKAGES = TRAINERS | ASKERS | EVALUATORS
ROOT = Path(__file__).parents[1]


class Unavailable(Exception):  # noqa: N818 - a row of the table says so
    """Why a peer cannot be installed, or cannot run here."""


def environment(peer: str, folder: Path) -> Path:
    """The peer's Python, in `folder`; a trainer's has our torch, an evaluator's all our versions. Raises Unavailable.

    An environment that was only made in part is made anew.
    """
    place = folder / peer
    python, made = place / "bin" / "python", place / "made"
    if not made.exists():
        shutil.rmtree(place, ignore_errors=True)
        pins = ROOT / "constraints.txt"
        torch = [line for line in pins.read_text().splitlines() if line.startswith("torch==") and peer not in ASKERS]
        versions = ["--constraint", str(pins)] if peer in EVALUATORS else []
        _run([sys.executable, "-m", "venv", str(place)])
        install = [str(python), "-m", "pip", "install", "--quiet"]
        _run([*install, *versions, *torch, *PACKAGES[peer].split()])
        if peer in WITHOUT_REQUIREMENTS:
            _run([*install, "--no-deps", WITHOUT_REQUIREMENTS[peer]])
        # their wheels for CUDA do not load beside a torch without; nothing here needs them
        if torch and subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False).returncode:
            _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio"])
        made.touch()
    return python


def run_peer(peer: str, python: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Its figures: seconds, losses, peak_mb. `settings` are what `peer_*.py` beside this file read."""
    script = Path(__file__).with_name(f"peer_{peer}.py")
    told = run_python(python, [str(script), json.dumps(settings)], settings["threads"])
    figures: dict[str, Any] = json.loads(told.splitlines()[-1])
    return figures


def run_python(python: Path, arguments: list[str], threads: int) -> str:
    """What a peer's Python prints, without a GPU, the hub or our package. Raises Unavailable if it fails."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return _run([str(python), *arguments], env=environ)


def _run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout
