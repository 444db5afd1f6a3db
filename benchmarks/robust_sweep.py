"""Every command with bad and odd input: thousands of commands, each in a process of its own; a table of what was wrong.

    python benchmarks/robust_sweep.py
    python benchmarks/robust_sweep.py --only view,eval --every 3 --show

Each line of robust_trials.txt gets each bad input of robust_inputs.py, each option of the commands in
robust_commands.txt each odd value. A fault is a traceback, a command that runs for more than 30 seconds or holds 1 GB
more than the warmed-up interpreter, one that ends with 0 but has not written what it had to, one that changes a file
that was there, an error without `fix`, and a control character on the terminal.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import forked
from robust_inputs import VALUES, Write, contents

FAULTS = ("traceback", "hang", "memory", "silent", "loss", "no fix", "control")
_BYTES = 1 << 30
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_OWN = {"run.json", "replies.sqlite", "answers.jsonl", "recipe.yaml"}
"""Files that a run goes on with, where its own folder is the bad input."""
_LAST = {"out", "help", "version"}
"""Options that get no odd values."""
_RECIPE = """\
name: sweep
model: {{vision_tower: mini, language_model: mini, projector: linear, image_aspect: stretch}}
log_to: []
stages:
  - {{name: tune, data: {base}/gen/instruct.json, images: {base}/coco, trains: [projector], epochs: 0.2, batch_size: 2,
     micro_batch_size: 2, learning_rate: 1.0e-3, max_length: 512}}
evaluation: {{data: {base}/coco, split: test, benchmarks: [chair], limit: 1}}
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """A command with the bad input `name` at a path in its folder, or an odd option, and what it has to write."""

    name: str
    line: str
    bad: str = ""
    writes: str = ""
    option: str = ""

    @property
    def command(self) -> str:
        """Its name."""
        return self.line.split()[0]


def main() -> None:
    """Run the sweep and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="commands of these names, as in view,split")
    parser.add_argument("--every", type=int, default=1, help="take each n-th command only")
    parser.add_argument("--folder", type=Path, help="folder of the good inputs, kept for the next time")
    parser.add_argument("--seconds", type=float, default=30.0, help="time of a command; more on a busy machine")
    parser.add_argument("--show", action="store_true", help="print every command, not those with a fault only")
    args = parser.parse_args()
    forked.warm_up()
    writers, found = contents(), defaultdict[str, Counter[str]](Counter)
    with tempfile.TemporaryDirectory() as folder:
        root = args.folder or Path(folder)
        root.mkdir(exist_ok=True)
        root.chmod(0o755)
        base = root / "base" if (root / "base/ck").exists() else make_base(root)
        wanted = args.only.split(",") if args.only else ()
        chosen = [one for one in trials(writers) if not wanted or one.command in wanted]
        begun = time.perf_counter()
        for trial in chosen[:: args.every]:
            try_out(trial, writers, base, root, found[trial.command], seconds=args.seconds, show=args.show)
        print_table(found)
        print(f"\n{time.perf_counter() - begun:.0f} s")
    sys.exit(any(counts[fault] for counts in found.values() for fault in FAULTS))


def trials(writers: Mapping[str, Write]) -> Iterator[Trial]:
    """All of them."""
    for line in _lines("robust_trials.txt"):
        yield from (Trial(name, *line.split(" | ")) for name in writers)
    from vistune.cli import build_parser

    parsers = build_parser()[1]
    for line in _lines("robust_commands.txt"):
        for action in parsers[line.split()[0]]._actions:
            if action.option_strings and action.nargs != 0 and action.dest not in _LAST:
                option = action.option_strings[-1]
                yield from (Trial(option, line, option=f"{option}={value}") for value in VALUES)


def _lines(name: str) -> list[str]:
    text = Path(__file__).with_name(name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def make_base(root: Path) -> Path:
    """Good inputs of every kind: annotations, conversations, a recipe, a checkpoint, an evaluation."""
    base = root / "base"
    base.mkdir()
    (base / "recipe.yaml").write_text(_RECIPE.format(base=base))
    asked = '{"image": "coco/images/train_000000.jpg", "question": "What?", "answer": "A dog"}\n'
    (base / "asked.jsonl").write_text(asked)
    (base / "none.jsonl").write_text("")
    for line in (
        "demo-data --train 6 --val 0 --test 2 --out coco", "generate coco --split train --out gen",
        "train recipe.yaml --out run", "eval run/tune --data coco --split test --limit 1 --out eval",
    ):  # fmt: skip
        outcome = forked.run(line.split(), base, root / "output.txt", limit=600)
        assert outcome, line
        assert outcome.code == 0, outcome.text
    shutil.copy(base / "gen/instruct.json", base / "rows.json")
    left_out = shutil.ignore_patterns("state", "tensorboard", "log.jsonl")
    shutil.copytree(base / "run/tune", base / "ck", ignore=left_out)
    return base


def try_out(
    trial: Trial, writers: Mapping[str, Write], base: Path, root: Path, counts: Counter[str], *, seconds: float,
    show: bool,
) -> None:  # fmt: skip
    """Run a trial in a new folder and count its faults."""
    work = root / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)
    if " ck " in f"{trial.line} ":
        shutil.copytree(base / "ck", work / "ck")
    if trial.bad:
        path = work / trial.bad
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        writers[trial.name](path)
    arguments = [*trial.line.replace("BASE", str(base)).split(), *([trial.option] if trial.option else [])]
    before = state(base) | state(work)
    given, unprivileged = ("Hi\n" if trial.command == "chat" else ""), trial.name == "unreadable"
    outcome = forked.run(arguments, work, root / "output.txt", limit=seconds, given=given, unprivileged=unprivileged)
    after = state(base) | state(work)
    faults = list(judge(outcome, trial, work))
    if any(after.get(path) != was for path, was in before.items() if path.name not in _OWN):
        faults.append("loss")
    counts.update(["commands", f"exit {outcome.code if outcome else None}", *faults])
    counts["MB"] = max(counts["MB"], outcome.peak >> 20 if outcome else 0)
    if faults or show:
        text = re.sub(r"\s+", " ", outcome.text[-300:]) if outcome else ""
        shown = [
            ", ".join(faults) or "-",
            str(outcome.code if outcome else None),
            trial.name,
            trial.line,
            trial.option[:40],
        ]
        print(" | ".join([*shown, text]).encode("unicode_escape").decode(), flush=True)


def judge(outcome: forked.Outcome | None, trial: Trial, work: Path) -> Iterator[str]:
    """The faults that show in how a command ended."""
    if outcome is None:
        yield "hang"
        return
    if "Traceback" in outcome.text or outcome.code not in (0, 2, 74):
        yield "traceback"
    if outcome.peak > _BYTES:
        yield "memory"
    if outcome.code == 0 and trial.writes and not (work / trial.writes).exists():
        yield "silent"
    if outcome.code == 2 and "fix: " not in outcome.text:
        yield "no fix"
    if _CONTROL.search(outcome.text):
        yield "control"


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Size, time and number of each file."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file():
            about = path.stat()
            found[path] = about.st_size, about.st_mtime_ns, about.st_ino
    return found


def print_table(found: Mapping[str, Counter[str]]) -> None:
    """A row a command, and their sum."""
    columns = ["commands", "exit 0", "exit 2", "exit 74", *FAULTS, "MB"]
    print(f"\n| command | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for command, counts in found.items():
        print(f"| {command} | {' | '.join(str(counts[name]) for name in columns)} |")
    total = [(max if name == "MB" else sum)(counts[name] for counts in found.values()) for name in columns]
    print(f"| all | {' | '.join(map(str, total))} |")


if __name__ == "__main__":
    main()
