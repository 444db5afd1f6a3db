"""`vistune env`."""

from __future__ import annotations

import argparse
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from vistune.cli.parsing import add_command


def add_env(commands: Any) -> None:
    """Add the command."""
    add_command(commands, "env", _print, "Print the versions and devices that a bug report needs")


def _print(_: argparse.Namespace) -> None:
    rows = {
        "vistune": version("vistune"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "CPU cores": str(os.cpu_count()),
        **_cuda(),
        **_packages(),
    }
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:{width}}{value}")


def _cuda() -> dict[str, str]:
    """The GPUs, and the CUDA that torch is built for; or why torch cannot be imported: a report may be about that."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"import torch": f"{type(error).__name__}: {error}"}
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    gpus = {
        f"GPU {index}": f"{one.name}, {one.total_memory / 2**30:.0f} GiB, compute capability {one.major}.{one.minor}"
        for index, one in enumerate(devices)
    }
    return {**gpus, "CUDA of torch": torch.version.cuda or "none"}


def _packages() -> dict[str, str]:
    """The versions of what vistune depends on, those of its extras only where they are installed."""
    found = {}
    for requirement in requires("vistune") or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if "extra ==" not in requirement:
                found[name] = "not installed"
    return {name: found[name] for name in sorted(found) if name != "vistune"}
