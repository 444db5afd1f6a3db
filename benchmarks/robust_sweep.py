"""Every command with bad and odd input: thousands of commands, each in a process of its own; a table of what was wrong.

    python benchmarks/robust_sweep.py --log sweep.jsonl
    python benchmarks/robust_sweep.py --only view,eval --every 3

Each line of robust_trials.txt gets each bad input of robust_inputs.py; each option of the commands in
robust_commands.txt, and each VALUE there, each odd value. Those commands as they are have to end with 0 first.

A fault is a traceback, a command that runs for more than 30 seconds or holds 1 GB more than the warmed-up interpreter,
one that ends with 0 but has not written what it had to, one that changes or removes a file that was there, an error
without `fix` or without the name of the bad input, more than 4,000 characters of it, a control character on the
terminal, and a file's code that ran. With --log, commands that are in the log are not run again: the same line goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import forked
from robust_inputs import CODE_RAN, VALUES, Write, contents, things

FAULTS = ("traceback", "hang", "memory", "silent", "loss", "no fix", "no name", "long", "control", "code ran")
_BYTES = 1 << 30
_LONGEST = 4000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_OWN = ("gen/replies.sqlite", "eval/answers.jsonl", "out/recipe.yaml")
"""Bad inputs in the folder of a run that goes on: it may replace what it has written itself, as its run.json says."""
_LAST = {"out", "help", "version"}
"""Options that get no odd values."""
_COPIED = ("ck", "gen", "eval", "light")
"""Folders of the good inputs that a command gets as its own copies, if its line names them."""
_UNTIL = {"serve": "/v1\n", "demo": "1. Annotated images"}
"""What commands print that end only with Ctrl-C, or after minutes."""
_RECIPE = """\
name: sweep
model: {{vision_tower: mini, language_model: mini, projector: linear, image_aspect: stretch}}
log_to: []
stages:
  - {{name: tune, data: {base}/gen/instruct.json, images: {base}/coco, trains: [projector], epochs: 0.2, batch_size: 2,
     micro_batch_size: 2, learning_rate: 1.0e-3, max_length: 512}}
evaluation: {{data: {base}/coco, split: test, benchmarks: [chair], limit: 1}}
"""
_PROBLEM = {
    "question": "Which?", "choices": ["a", "b"], "answer": 0, "hint": "", "image": None, "task": "closed choice",
    "grade": "grade1", "subject": "natural science", "topic": "t", "lecture": "", "solution": "", "split": "train",
}  # fmt: skip
_FILES: dict[str, Any] = {
    "asked.jsonl": {"image": "coco/images/train_000000.jpg", "question": "What?", "answer": "A dog"},
    "pope.jsonl": {"question_id": 1, "image": "a.jpg", "question": "Is there a dog in the image?", "label": "yes",
                   "response": "No"},
    "vqa.jsonl": {"question_id": 1, "answer": "yes"},
    "truth.json": {"annotations": [{"question_id": 1, "image_id": 1, "answers": [{"answer": "yes"}] * 10}]},
    "problems.json": {"1": _PROBLEM, "2": {**_PROBLEM, "split": "test"}},
    "pid_splits.json": {"train": ["1"], "val": [], "test": ["2"]},
    "judge.jsonl": {"id": "1", "kind": "llava_bench", "text": "8 7"},
    "science.jsonl": {"question_id": "2", "prompt": "Which?", "text": "The answer is A."},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """A command with the bad input `name` at a path in its folder, or an odd value, and what it has to write."""

    line: str
    name: str = ""
    bad: str = ""
    writes: str = ""
    value: str = ""

    @property
    def command(self) -> str:
        """Its name."""
        return self.line.split()[0]

    def arguments(self, base: Path) -> list[str]:
        """What the command line gets; `base` has the good inputs."""
        words = [self.value if word == "VALUE" else word for word in self.line.replace("BASE", str(base)).split()]
        return [*words, f"{self.name}={self.value}"] if self.name.startswith("--") else words

    def shown(self) -> str:
        """It in words, without control characters."""
        value = self.value if len(self.value) < 40 else f"{self.value[:9]}…"
        return " | ".join(filter(None, [self.line, self.bad, self.name, value])).encode("unicode_escape").decode()


def main() -> None:
    """Run the sweep and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="commands of these names, as in view,split")
    parser.add_argument("--every", type=int, default=1, help="take each n-th command only")
    parser.add_argument("--folder", type=Path, help="folder of the good inputs, kept for the next time")
    parser.add_argument("--seconds", type=float, default=30.0, help="time of a command; more on a busy machine")
    parser.add_argument(
        "--log", type=Path, help="file of JSON lines of every command, which the same line goes on with"
    )
    args = parser.parse_args()
    forked.warm_up()
    writers = contents() | things()
    lines = args.log.read_text().splitlines() if args.log and args.log.exists() else []
    found = {one["trial"]: one for one in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder:
        root = args.folder or Path(folder)
        root.mkdir(exist_ok=True)
        root.chmod(0o755)
        base = make_base(root)
        wanted = args.only.split(",") if args.only else ()
        for trial in [one for one in trials(writers) if not wanted or one.command in wanted][:: args.every]:
            if trial.shown() in found:
                continue
            one = found[trial.shown()] = try_out(trial, writers, base, root, args.seconds)
            if args.log:
                with args.log.open("a") as file:
                    file.write(json.dumps(one) + "\n")
            if one["faults"]:
                print(
                    ", ".join(one["faults"]),
                    one["code"],
                    trial.shown(),
                    repr(one["text"][-300:]),
                    sep=" | ",
                    flush=True,
                )
    print_table(found.values())
    sys.exit(any(one["faults"] for one in found.values()))


def trials(writers: Mapping[str, Write]) -> Iterator[Trial]:
    """All of them."""
    for line in _lines("robust_trials.txt"):
        command, *paths = line.split(" | ")
        some = things() if f"--out {paths[0]}" in command else writers  # what a file at --out holds is not read
        yield from (Trial(command, name, *paths) for name in some)
    from vistune.cli import build_parser

    parsers = build_parser()[1]
    for line in _lines("robust_commands.txt"):
        if "VALUE" in line:
            yield from (Trial(line, value=value) for value in VALUES)
            continue
        for action in parsers[line.split()[0]]._actions:
            if action.option_strings and action.nargs != 0 and action.dest not in _LAST:
                yield from (Trial(line, action.option_strings[-1], value=value) for value in VALUES)


def _lines(name: str) -> list[str]:
    text = Path(__file__).with_name(name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def make_base(root: Path) -> Path:
    """Good inputs of every kind: annotations, conversations, a recipe, checkpoints, an evaluation, answers.

    What the good commands import is imported here, so that none does again.
    """
    base, modules = root / "base", root / "modules.json"
    if modules.exists():
        forked.learn(modules)
        return base
    base.mkdir()
    (base / "recipe.yaml").write_text(_RECIPE.format(base=base))
    (base / "none.jsonl").write_text("")
    for name, content in _FILES.items():
        (base / name).write_text(json.dumps(content) + "\n")
    names: list[str] = []
    for line in (
        "demo-data --train 6 --val 0 --test 2 --out coco", "generate coco --split train --out gen",
        "train recipe.yaml --out run", "train recipe.yaml --set stages.tune.save=trained --out projector",
        "eval run/tune --data coco --split test --limit 1 --out eval",
    ):  # fmt: skip
        names += run_good(line, base, root)
    shutil.copy(base / "gen/instruct.json", base / "rows.json")
    left_out = shutil.ignore_patterns("state", "tensorboard", "log.jsonl")
    shutil.copytree(base / "projector/tune", base / "light", ignore=left_out)
    shutil.copytree(base / "run/tune", base / "ck", ignore=left_out)
    for line in _lines("robust_commands.txt"):
        if "VALUE" not in line:
            names += run_good(line.replace("BASE", str(base)), new_folder(root), root)
    modules.write_text(json.dumps(list(dict.fromkeys(names))))
    return base


def run_good(line: str, folder: Path, root: Path) -> list[str]:
    """Run a command that has to end well; the names of what it has imported, which is imported here, too."""
    modules, until = root / "imported.json", _UNTIL.get(line.split()[0], "")
    outcome = forked.run(line.split(), folder, root / "output.txt", limit=600, modules=modules, until=until)
    assert outcome, line
    assert outcome.code == (130 if until else 0), (line, outcome.text)
    return forked.learn(modules)


def new_folder(root: Path) -> Path:
    """An empty folder that every user may write."""
    work = root / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)
    return work


def try_out(trial: Trial, writers: Mapping[str, Write], base: Path, root: Path, seconds: float) -> dict[str, Any]:
    """Run a trial in a new folder: how it ended, and its faults."""
    work = new_folder(root)
    for name in _COPIED:
        if f" {name} " in f"{trial.line} ":
            shutil.copytree(base / name, work / name)
    if trial.bad:
        path = work / trial.bad
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        writers[trial.name](path)
    before = state(base) | state(work)
    outcome = forked.run(
        trial.arguments(base), work, root / "output.txt", limit=seconds, until=_UNTIL.get(trial.command, ""),
        given="Hi\n" if trial.command == "chat" else "", unprivileged=trial.name == "unreadable",
    )  # fmt: skip
    after = state(base) | state(work)
    faults = list(judge(outcome, trial, work))
    own = Path(trial.bad).parts[0] if trial.bad in _OWN else None
    if any(after.get(path) != was for path, was in before.items() if path.parent != work / str(own)):
        faults.append("loss")
    about = asdict(outcome) if outcome else {"code": None, "text": "", "seconds": seconds, "peak": 0}
    made = sorted(str(path.relative_to(root)) for path in after.keys() - before.keys())
    return {"trial": trial.shown(), "command": trial.command, "faults": faults, **about, "made": made[:20]}


def judge(outcome: forked.Outcome | None, trial: Trial, work: Path) -> Iterator[str]:
    """The faults that show in how a command ended."""
    if outcome is None:
        yield "hang"
        return
    stopped = trial.command in _UNTIL and outcome.code == 130
    if "Traceback" in outcome.text or not (outcome.code in (0, 2, 74) or stopped):
        yield "traceback"
    if outcome.peak > _BYTES:
        yield "memory"
    if outcome.code == 0 and trial.writes and not (work / trial.writes).exists():
        yield "silent"
    if outcome.code == 2 and "fix: " not in outcome.text:
        yield "no fix"
    if outcome.code == 2 and trial.bad and not re.search(rf"\b{re.split('[/.]', trial.bad)[0]}\b", outcome.text):
        yield "no name"
    if len(outcome.text) > _LONGEST:
        yield "long"
    if _CONTROL.search(outcome.text):
        yield "control"
    if (work / CODE_RAN).exists():
        yield "code ran"


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Size, time and number of each file."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file():
            about = path.stat()
            found[path] = about.st_size, about.st_mtime_ns, about.st_ino
    return found


def print_table(outcomes: Iterable[Mapping[str, Any]]) -> None:
    """A row a command, and their sum."""
    outcomes = sorted(outcomes, key=lambda one: one["command"])
    codes = {"exit 0": (0, 130), "exit 2": (2,), "exit 74": (74,)}
    print(f"\n| command | commands | {' | '.join([*codes, *FAULTS])} | MB | s |\n|---|{'---|' * (len(FAULTS) + 6)}")
    for command in [*dict.fromkeys(one["command"] for one in outcomes), "all"]:
        rows = [one for one in outcomes if command in (one["command"], "all")]
        counts = [len(rows), *(sum(one["code"] in some for one in rows) for some in codes.values())]
        counts += [sum(fault in one["faults"] for one in rows) for fault in FAULTS]
        most = max(one["peak"] for one in rows) >> 20, round(max(one["seconds"] for one in rows), 1)
        print(f"| {' | '.join(map(str, [command, *counts, *most]))} |")


if __name__ == "__main__":
    main()
