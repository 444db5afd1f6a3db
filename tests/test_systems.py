"""Systems that lack what Linux has: Windows, and in part macOS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UNIX = ("grp", "pwd", "readline", "resource", "termios", "tty")
CODE = f"""
import importlib, pkgutil, sys, types
import torch, transformers, accelerate, peft  # may use them where they are
for name in {UNIX}:
    sys.modules[name] = None  # importing it is an ImportError
import vistune
sys.platform, linux, sys.modules["fcntl"] = "win32", sys.platform, None
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
import vistune.output_folder  # locks by one of the two
sys.platform = linux
for module in pkgutil.walk_packages(vistune.__path__, "vistune."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_is_imported_without_what_only_unix_has() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = (Path(__file__).parent.parent / "src/vistune").rglob("*.py")
    assert len(done.stdout.splitlines()) == sum(path.name != "__main__.py" for path in files) - 1  # not vistune itself
