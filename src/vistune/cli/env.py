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
    import torch

    rows = {
        "vistune": version("vistune"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "CPU cores": str(os.cpu_count()),
        **{f"GPU {index}": _gpu(index) for index in range(torch.cuda.device_count())},
        "CUDA of torch": torch.version.cuda or "none",
        **_packages(),
    }
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:{width}}{value}")


def _gpu(index: int) -> str:
    import torch

    device = torch.cuda.get_device_properties(index)
    return f"{device.name}, {device.total_memory / 2**30:.0f} GiB, compute capability {device.major}.{device.minor}"


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
