"""Every command that writes files, twice at once in one place: the second is refused, the first is not harmed.

    python benchmarks/two_runs.py
    python benchmarks/two_runs.py --only train,view --trials 5

The first is stopped (SIGSTOP) at a random moment while it holds its lock, so that it is still running when the second
begins. The second has to end with 2 and say what to do. Then the first goes on, and has to end with the bytes of a
single run and no other file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
from robust_runs import COMMANDS, Command, make_inputs

_INTERACTIVE = ("chat", "serve")
"""They write a file when a user says so, and then at once."""
_DONE_BEFORE = ("ablate", "demo")
"""Their trainings, each a command of its own, are finished before: each trial does all the rest."""
_AGAIN = ("eval", "ablation.json", "report.html", "report_images", "scores.json")
"""What is removed of a finished one of these before each trial."""
COLUMNS = ("pairs", "second refused", "first as alone", "FAULTS")


def main() -> None:
    """Run all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", help="commands, as in view,split")
    parser.add_argument("--folder", type=Path, help="folder of the inputs, kept for the next time")
    args = parser.parse_args()
    forked.warm_up()
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = make_inputs(args.folder or Path(folder))
        for name in args.only.split(",") if args.only else [name for name in COMMANDS if name not in _INTERACTIVE]:
            found[name] = Trials(name, COMMANDS[name], base, Path(folder)).run(args.trials, args.seed)
            print(f"{name}: {dict(found[name])}", flush=True)
    print(f"\n| command | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(str(counts[column]) for column in COLUMNS)} |")
    sys.exit(any(counts["FAULTS"] for counts in found.values()))


class Trials:
    """Pairs of one command in the folder `work` below `root`."""

    def __init__(self, name: str, command: Command, base: Path, root: Path) -> None:
        self.name, self.command, self.root = name, command, root
        self.work, self.done = root / "work", root / "done"
        self.arguments = command.arguments(base, self.work)
        self.counts: Counter[str] = Counter()

    def run(self, trials: int, seed: int) -> Counter[str]:
        """The counts over `trials` pairs."""
        rng, tally = random.Random(f"{seed} {self.name}"), self.root / "tally"
        tally.unlink(missing_ok=True)
        self.renew()
        whole = self.start("first", while_locked(self.work, 0, tally)).wait(600)
        assert whole, f"{self.name} hangs"
        assert whole.code == 0, whole.text
        assert tally.exists(), f"{self.name} takes no lock"
        wanted, files, moments = self.command.digests(self.work), self.files(), int(tally.read_text())
        assert wanted, f"{self.name} has no results"
        if self.name in _DONE_BEFORE:
            shutil.copytree(self.work, self.done)
        while self.counts["pairs"] < trials:
            self.renew()
            self.pair(while_locked(self.work, rng.randint(1, moments), tally), wanted, files)
        shutil.rmtree(self.done, ignore_errors=True)
        return self.counts

    def renew(self) -> None:
        """An empty folder, or one in which the trainings are finished."""
        shutil.rmtree(self.work, ignore_errors=True)
        if not self.done.exists():
            self.work.mkdir()
            return
        shutil.copytree(self.done, self.work)
        for path in [path for name in _AGAIN for path in self.work.rglob(name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def pair(self, stop: Callable[[], None], wanted: dict[str, str], files: list[str]) -> None:
        """Two at once. A first one that ended before the moment at which it stops does not count."""
        first = self.start("first", stop)
        state = os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state
        if state.si_code == os.CLD_STOPPED:
            second = self.start("second").wait(600)
            os.killpg(first.pid, signal.SIGCONT)
        one = first.wait(600)
        assert one, f"{self.name} hangs"
        if state.si_code != os.CLD_STOPPED:
            return
        assert second, f"{self.name} hangs"
        refused = second.code == 2 and "another run is" in second.text and "fix: " in second.text
        alone = one.code == 0 and self.command.digests(self.work) == wanted and self.files() == files
        self.counts.update({"pairs": 1, "second refused": refused, "first as alone": alone})
        if not (refused and alone):
            self.counts["FAULTS"] += 1
            texts = [f"{ended.code} {ended.text[-300:]!r}" for ended in (one, second)]
            print(f"{self.name}: {', '.join(texts)}, {sorted({*self.files()} ^ {*files})}", flush=True)

    def start(self, output: str, before: Callable[[], None] = lambda: None) -> forked.Child:
        """The command."""
        path = self.root / f"{output}.txt"
        return forked.start(self.arguments, self.root, path, given=self.command.typed(self.work), before=before)

    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(str(path.relative_to(self.work)) for path in self.work.rglob("*") if "tfevents" not in path.name)


def while_locked(work: Path, at: int, tally: Path) -> Callable[[], None]:
    """What stops a process, and all that it has started, at the `at`-th event while it holds the lock of `work`.

    An event is one of Python's audit: the opening of a file, an import, the start of a process … The process writes
    their number to `tally`.
    """

    def begin() -> None:
        lock, seen, prefix = "", 0, str(work)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal lock, seen
            path = str(arguments[0]) if event in ("open", "os.remove") else ""
            if lock and path == lock and event == "os.remove":
                lock = ""
                tally.write_text(str(seen))
            elif not lock and path.endswith(".lock") and path.startswith(prefix):
                lock = path
            elif lock and event != "fcntl.flock":
                seen += 1
                if seen == at:
                    os.killpg(0, signal.SIGSTOP)

        sys.addaudithook(hook)

    return begin


if __name__ == "__main__":
    main()
