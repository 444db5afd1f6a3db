"""Every command that writes, on a disk that is full after 20 different amounts (needs root: it mounts a tmpfs).

    python benchmarks/full_disk.py
    python benchmarks/full_disk.py --only train,view --sizes 5

A command on a full disk has to end with 74 and name a file of that disk, a size and what to do; what was there stays;
with more room the same command has to end with 0 and the same files. Every fifth time it runs once more on a disk with
its results and no room left: they have to stay. `chat` prints the error and goes on, so it ends with 0.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forked
from robust_runs import COMMANDS, Command, make_inputs

_ROOM, _PAGE = 400 << 20, 4096
_USERS = "precious"
COLUMNS = ("sizes", "full", "exit 74", "file named", "kept", "same after", "full again", "results kept", "FAULTS")


def main() -> None:
    """Run all commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--only", help="commands, as in view,split")
    parser.add_argument("--folder", type=Path, help="folder of the inputs, kept for the next time")
    args = parser.parse_args()
    forked.warm_up()
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = make_inputs(args.folder or Path(folder))
        for name in args.only.split(",") if args.only else COMMANDS:
            found[name] = Trials(name, COMMANDS[name], base, Path(folder)).run(args.sizes)
            print(f"{name}: {dict(found[name])}", flush=True)
    print(f"\n| command | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(str(counts[column]) for column in COLUMNS)} |")
    sys.exit(any(counts["FAULTS"] for counts in found.values()))


class Trials:
    """Runs of one command on disks of all sizes."""

    def __init__(self, name: str, command: Command, base: Path, root: Path) -> None:
        self.name, self.command, self.root, self.disk = name, command, root, root / "disk"
        self.arguments = command.arguments(base, self.disk)
        self.full = 0 if name == "chat" else 74
        self.counts: Counter[str] = Counter()
        self.disk.mkdir(exist_ok=True)

    def run(self, sizes: int) -> Counter[str]:
        """The counts over disks of as many sizes."""
        with self.mounted(_ROOM):
            whole = self.start()
            assert whole.code == 0, whole.text
            self.wanted, most = self.command.digests(self.disk), shutil.disk_usage(self.disk).used
            assert self.wanted, f"{self.name} has no results"
        for number in range(1, sizes + 1):
            with self.mounted(max(4 * _PAGE, most * number // (sizes + 1))):
                self.fill(number, small=most < 4 * _PAGE)
                if self.command.digests(self.disk) == self.wanted and number % 5 == 0:
                    self.run_again(number)
        return self.counts

    def fill(self, number: int, *, small: bool) -> None:
        """The command on a disk without room for its results, and once more with room."""
        users, filler = self.disk / "users.txt", self.disk / "filler"
        users.write_text(_USERS)
        if small:  # pages are all that a disk of memory has: leave none
            filler.write_bytes(bytes(shutil.disk_usage(self.disk).free))
        outcome = self.start()
        self.counts["sizes"] += 1
        is_full = "No space left" in outcome.text or "disk is full" in outcome.text or outcome.code != 0
        if is_full:
            said = rf"{re.escape(str(self.disk))}\S*: .* [\d,]+ bytes.*\n  fix: "
            named = bool(re.search(said, outcome.text)) and "Traceback" not in outcome.text
            self.counts.update({"full": 1, "exit 74": outcome.code == self.full, "file named": named})
            if outcome.code != self.full or not named:
                self.fault(f"size {number}", outcome)
        self.counts["kept"] += users.read_text() == _USERS
        self.mount(_ROOM, "remount")
        filler.unlink(missing_ok=True)
        again = self.start() if is_full else outcome
        same = again.code == 0 and self.command.digests(self.disk) == self.wanted
        self.counts["same after"] += same
        if not same:
            self.fault(f"again, size {number}", again)

    def run_again(self, number: int) -> None:
        """The command over its own results, with hardly any room."""
        self.mount(shutil.disk_usage(self.disk).used + _PAGE * (number // 5), "remount")
        outcome = self.start()
        kept = self.command.digests(self.disk) == self.wanted
        self.counts.update({"full again": 1, "results kept": kept})
        if not kept or outcome.code not in (0, 2, 74):
            self.fault("over results", outcome)

    def start(self) -> forked.Outcome:
        """How the command ends."""
        outcome = forked.run(
            self.arguments, self.root, self.root / "output.txt", limit=600, given=self.command.typed(self.disk)
        )
        assert outcome, f"{self.name} hangs"
        return outcome

    @contextmanager
    def mounted(self, size: int) -> Iterator[None]:
        """A disk of this size at `disk`."""
        self.mount(size)
        try:
            yield
        finally:
            subprocess.run(["umount", str(self.disk)], check=True)

    def mount(self, size: int, *options: str) -> None:
        """Mount the disk, or change its size."""
        settings = ",".join([*options, f"size={size}"])
        subprocess.run(["mount", "-t", "tmpfs", "-o", settings, "x", str(self.disk)], check=True)

    def fault(self, what: str, outcome: forked.Outcome) -> None:
        """Print and count it."""
        self.counts["FAULTS"] += 1
        print(f"{self.name}: {what}: exit {outcome.code}: {outcome.text[-400:]!r}", flush=True)


if __name__ == "__main__":
    main()
