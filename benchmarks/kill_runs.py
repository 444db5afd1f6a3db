"""Runs of generate, train and eval are killed at random moments, and files of half-finished runs are damaged.

    python benchmarks/kill_runs.py --kills 50 --damages 50 --pairs 20

Two processes of a command that start at nearly the same time in one folder: the second has to be refused, and the
first to end with the same bytes. After each kill the same command goes on; a finished run has to have the bytes of one
that was not killed, and `generate` requests nothing again that is stored. Of a damaged run the same command has to end
with these bytes, or with an error that says what to do. `kill_resume.py` kills larger trainings, also with adapters and
while they write.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import forked
from robust_sweep import make_base

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from generating import annotations
from teacher_server import teacher_process

IMAGES, CONCURRENCY = 30, 8
COLUMNS = (
    "kills", "finished", "same bytes", "stored again", "pairs", "second refused", "damaged", "made the same",
    "error with fix", "OTHER",
)  # fmt: skip


@dataclass
class Run:
    """A command, and what it ends with."""

    name: str
    line: list[str]
    results: tuple[str, ...]
    requests: Callable[[], int] = lambda: 0
    counts: Counter[str] = field(default_factory=Counter)

    def start(self, root: Path, out: Path) -> forked.Child:
        return forked.start([*self.line, "--out", str(out)], root, root / "output.txt")

    def finish(self, root: Path, out: Path) -> forked.Outcome:
        outcome = self.start(root, out).wait(300)
        assert outcome, f"{self.name} hangs"
        return outcome

    def digests(self, out: Path) -> list[str]:
        files = [path for pattern in self.results for path in sorted(out.glob(pattern))]
        return [sha256(path.read_bytes()).hexdigest() for path in files]


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damages", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="generate,train,eval")
    parser.add_argument("--folder", type=Path, help="folder of the inputs, kept for the next time")
    args = parser.parse_args()
    forked.warm_up()
    with tempfile.TemporaryDirectory() as folder, teacher_process(latency=0.02) as url:
        root = args.folder or Path(folder)
        root.mkdir(exist_ok=True)
        base = root / "base" if (root / "base/ck").exists() else make_base(root)
        runs = [run for run in make_runs(base, url) if run.name in args.only]
        for run in runs:
            try_out(run, Path(folder), args)
        print(f"\n| command | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
        for run in runs:
            print(f"| {run.name} | {' | '.join(str(run.counts[name]) for name in COLUMNS)} |")
    sys.exit(any(run.counts["OTHER"] or run.counts["stored again"] for run in runs))


def make_runs(base: Path, url: str) -> list[Run]:
    """The commands, on the good inputs of the sweep."""
    data = annotations(base, IMAGES)
    recipe = base / "killed.yaml"
    text = (base / "recipe.yaml").read_text().replace("epochs: 0.2", "epochs: 0.6, checkpoint_every: 1")
    recipe.write_text(text.replace("log_to: []", "log_to: [tensorboard]"))

    def requests() -> int:
        with urllib.request.urlopen(f"{url}/stats") as reply:
            return int(json.load(reply)["requests"])

    generate = [
        "generate", str(data), "--source", "caps_boxes", "--teacher", "openai:teacher-1", "--base-url", f"{url}/v1",
        "--kinds", "conversation=all", "--concurrency", str(CONCURRENCY),
    ]  # fmt: skip
    coco = ["--data", str(base / "coco"), "--split", "train"]
    return [
        Run("demo-data", ["demo-data", "--train", "60", "--val", "0", "--test", "0"], ("*.json",)),
        Run("export", ["export", str(base / "ck"), "--to", "merged"], ("*.safetensors", "config.json")),
        Run("generate", generate, ("instruct.json", "align.json", "provenance.jsonl", "report.json"), requests),
        Run("train", ["train", str(recipe)], ("tune/*.safetensors", "tune/*.json")),
        Run("eval", ["eval", str(base / "ck"), *coco, "--limit", "1", "--batch-size", "2"],
            ("verdicts.jsonl", "scores.json")),
    ]  # fmt: skip


def try_out(run: Run, root: Path, args: argparse.Namespace) -> None:
    """Kill, damage and pair a command."""
    rng, kills = random.Random(run.name), args.kills
    whole = run.finish(root, root / "whole")
    assert whole.code == 0, whole.text
    wanted, seconds = run.digests(root / "whole"), whole.seconds
    print(f"{run.name}: a whole run takes {seconds:.1f} s and writes {len(wanted)} files", flush=True)
    out, halves = root / "killed", root / "halves"
    while run.counts["kills"] < kills:
        child = run.start(root, out)
        outcome = child.wait(rng.uniform(0, seconds))
        if outcome is None:
            child.kill()
            run.counts["kills"] += 1
            if out.exists():
                shutil.copytree(out, halves / str(run.counts["kills"]))
        if outcome or rng.random() < 0.25:
            complete(run, root, out, wanted)
    if out.exists():
        complete(run, root, out, wanted)
    for _ in range(args.pairs):
        pair(run, root, out, wanted, rng.uniform(0, min(1.0, seconds / 2)))
    for _ in range(args.damages if kills else 0):
        source = rng.choice(sorted(halves.iterdir()))
        shutil.copytree(source, out)
        files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.stat().st_size]
        if not files:
            shutil.rmtree(out)
            continue
        path = rng.choice(files)
        how = damage(path, rng)
        run.counts["damaged"] += 1
        outcome = run.finish(root, out)
        same = outcome.code == 0 and run.digests(out) == wanted
        fixed = outcome.code in (2, 74) and "fix: " in outcome.text and "Traceback" not in outcome.text
        run.counts["made the same" if same else "error with fix" if fixed else "OTHER"] += 1
        if not same:
            print(f"{run.name}: {how} {path.relative_to(out)}: {outcome.code} {outcome.text[-300:]!r}", flush=True)
        shutil.rmtree(out)
    shutil.rmtree(halves, ignore_errors=True)
    shutil.rmtree(root / "whole")


def complete(run: Run, root: Path, out: Path, wanted: list[str]) -> None:
    """Let the killed run finish, compare, and remove it."""
    before, kept = run.requests(), stored(out)
    outcome = run.finish(root, out)
    run.counts["finished"] += 1
    run.counts["same bytes"] += run.digests(out) == wanted and outcome.code == 0
    if outcome.code or run.digests(out) != wanted:
        run.counts["OTHER"] += 1
        print(f"{run.name}: exit {outcome.code}: {outcome.text[-500:]!r}", flush=True)
    probe = 1  # whether the server honours a schema; once a store
    run.counts["stored again"] += (
        max(0, run.requests() - before - (IMAGES - kept) - probe) if run.name == "generate" else 0
    )
    shutil.rmtree(out)


def pair(run: Run, root: Path, out: Path, wanted: list[str], delay: float) -> None:
    """Run the command twice at once."""
    first = run.start(root, out)
    ended = first.wait(delay)
    second = forked.start([*run.line, "--out", str(out)], root, root / "second.txt")
    two, one = second.wait(300), ended or first.wait(300)
    assert one
    assert two, f"{run.name} hangs"
    refused, finished = (one, two) if one.code else (two, one)
    clear = refused.code == 2 and ("another run is using" in refused.text or "is not empty" in refused.text)
    good = clear and finished.code == 0 and run.digests(out) == wanted
    run.counts["pairs"] += 1
    run.counts["second refused"] += good
    if not good and not ended:
        run.counts["OTHER"] += 1
        print(f"{run.name}: {one.code} {one.text[-300:]!r}, {two.code} {two.text[-300:]!r}", flush=True)
    shutil.rmtree(out)


def stored(out: Path) -> int:
    """The number of replies in a killed run's store."""
    path = out / "replies.sqlite"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])
    except sqlite3.Error:  # killed before it had tables
        return 0


def damage(path: Path, rng: random.Random) -> str:
    """Change a byte, cut the file off, or put zeros or garbage into it; what was done."""
    content = bytearray(path.read_bytes())
    at, size = rng.randrange(len(content)), rng.choice((1, 100, 8192))
    how = rng.choice(("a byte of", "cut off", "zeros in", "garbage in"))
    if how == "cut off":
        del content[at:]
    elif how == "a byte of":
        content[at] ^= 1 << rng.randrange(8)
    else:
        size = min(size, len(content) - at)
        content[at : at + size] = bytes(size) if how == "zeros in" else rng.randbytes(size)
    path.write_bytes(content)
    return how


if __name__ == "__main__":
    main()
