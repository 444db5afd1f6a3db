"""Commands of vistune in forked children of one warmed-up interpreter: a child imports nothing again.

A child is a process of its own, with its own memory, signals and exit code, so it may crash, hang or be killed; only
the start of the interpreter and the imports, which are the same for all, are left out.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
_DATA = 4 << 30
"""Bytes that a child may allocate."""
Arguments = Sequence[str] | Callable[[], object]
"""Those of a command, or a function in place of one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code (negative: a signal), what it printed, seconds, bytes over the parent's."""

    code: int
    text: str
    seconds: float
    peak: int


@dataclass(slots=True)
class Child:
    """A running command."""

    pid: int
    output: Path
    start: float
    rss: int

    def wait(self, seconds: float, *, until: str = "") -> Outcome | None:
        """How it ended; None if it still runs after so long. Ctrl-C is sent once it has printed `until`."""
        end = time.perf_counter() + seconds
        while True:
            if until and until in self.output.read_text("utf-8", errors="replace"):
                os.kill(self.pid, signal.SIGINT)
                until = ""
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                text = self.output.read_text("utf-8", errors="replace")
                peak = max(0, usage.ru_maxrss * 1024 - self.rss)
                return Outcome(code, text, time.perf_counter() - self.start, peak)
            if time.perf_counter() > end:
                return None
            time.sleep(0.002)

    def kill(self) -> Outcome:
        """End it, and all that it has started, with SIGKILL."""
        os.killpg(self.pid, signal.SIGKILL)
        outcome = self.wait(60)
        assert outcome is not None
        return outcome


def warm_up() -> None:
    """Import what the commands import when they run."""
    import inflect  # noqa: F401
    import torch.utils.tensorboard

    import vistune

    for module in walk_packages(vistune.__path__, "vistune."):
        if not module.name.startswith(("vistune.serve.web", "vistune.cli.__main__")):  # gradio starts threads
            import_module(module.name)
    torch.set_num_threads(1)


def learn(modules: Path) -> list[str]:
    """Import what a command has imported, as `start` has written it to this file: the names of the modules."""
    names: list[str] = json.loads(modules.read_text())
    for name in names:
        importlib.import_module(name)
    return names


def start(
    arguments: Arguments, folder: Path, output: Path, *, given: str = "", unprivileged: bool = False,
    before: Callable[[], object] = lambda: None, modules: Path | None = None,
) -> Child:  # fmt: skip
    """Run a command in `folder`, with `given` on its standard input; `before` is called in the child.

    `modules` is a file for the names of the modules that it has imported.
    """
    output.unlink(missing_ok=True)
    output.touch()
    sys.stdout.flush()
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    begun = time.perf_counter()
    pid = os.fork()
    if pid:
        return Child(pid, output, begun, rss)
    code = 1
    try:
        code = _child(arguments, folder, output, given, unprivileged, before)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if modules:
            names = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None)]
            modules.write_text(json.dumps(names))
        os._exit(code)


def _child(
    arguments: Arguments, folder: Path, output: Path, given: str, unprivileged: bool, before: Callable[[], object]
) -> int:
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1), os.dup2(file, 2)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    reading, writing = os.pipe()
    os.write(writing, given.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.chdir(folder)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + _DATA, used + _DATA))
    if unprivileged:
        _obey_permissions()
    before()
    from vistune.cli import main
    from vistune.errors import VistuneError

    if not callable(arguments):
        return main(list(arguments))
    try:
        arguments()
    except VistuneError as error:
        print(f"error: {error}")
        return error.exit_code
    return 0


def _obey_permissions() -> None:
    """Give up root's right to read and write whatever the permissions of a file are (Linux's capset)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    all_but_two = 0xFFFFFFFF & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(all_but_two, all_but_two, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    libc = ctypes.CDLL(None)
    now = (ctypes.c_uint32 * 6)()
    libc.capget(header, now)
    libc.capset(header, (ctypes.c_uint32 * 6)(*(one & other for one, other in zip(now, sets, strict=True))))


def run(
    arguments: Arguments, folder: Path, output: Path, *, limit: float = 30.0, until: str = "", **options: object
) -> Outcome | None:
    """How a command ended, with Ctrl-C once it has printed `until`; None if it ran for more than `limit` seconds."""
    child = start(arguments, folder, output, **options)  # type: ignore[arg-type]
    outcome = child.wait(limit, until=until)
    if outcome is None:
        child.kill()
    return outcome
