"""Runs of train, generate and eval are killed, and files of half-finished runs are damaged.

    python benchmarks/kill_runs.py --kills 50 --damages 50

A run is killed (SIGKILL) one to three times, at a random moment or when it opens, renames or removes its n-th
file; then the same command finishes it. It has to end with the bytes of a run that was not killed.
`generate` asks a teacher, `eval` a judge, each a server in a process of its own: its count of requests is compared with
the replies that are stored. Then a random file of a half-finished run is damaged, and the same command has to end with
the same bytes, or with an error that says what to do.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import forked
from killing import Run, count_changes, damage, make_runs
from robust_runs import make_inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from judge_server import judge_process
from teacher_server import teacher_process

_MOST = 3
"""Kills of one run."""
KILLS = ("kills", "while writing", "runs", "same bytes")
REQUESTS = ("requests", "stored", "in flight at kills", "answers", "lost", "requested again")
DAMAGES = ("damaged", "same", "error with fix", "OTHER")


def main() -> None:
    """Run all trials and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damages", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of all moments and places")
    parser.add_argument("--only", default="train,generate,eval")
    parser.add_argument("--folder", type=Path, help="folder of the inputs, kept for the next time")
    args = parser.parse_args()
    forked.warm_up()
    with (
        tempfile.TemporaryDirectory() as folder, teacher_process(latency=0.1) as teacher,
        judge_process(latency=0.3) as judge,
    ):  # fmt: skip
        base = make_inputs(args.folder or Path(folder))
        runs = [run for run in make_runs(base, teacher, judge) if run.name in args.only.split(",")]
        for run in runs:
            try_out(run, Path(folder), args)
    for columns in (KILLS, REQUESTS, DAMAGES):
        print(f"\n| command | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for run in runs:
            print(f"| {run.name} | {' | '.join(str(run.counts[name]) for name in columns)} |")
    sys.exit(any(run.counts[name] for run in runs for name in ("OTHER", "lost", "requested again")))


def try_out(run: Run, root: Path, args: argparse.Namespace) -> None:
    """Kill runs of a command, and damage what was left of them."""
    rng, counts = random.Random(f"{args.seed} {run.name}"), run.counts
    whole, halves = root / "whole", root / "halves"
    changes, outcome = count_changes(run, root, whole)
    assert outcome.code == 0, outcome.text
    wanted, run.wanted = outcome.seconds, run.digests(whole)
    print(f"{run.name}: {wanted:.1f} s, {len(run.wanted)} files of results, {changes} changes of files", flush=True)
    while counts["kills"] < args.kills:
        kill_and_finish(run, root, halves, rng, min(_MOST, args.kills - counts["kills"]), wanted, changes)
    print(f"{run.name}: {dict(counts)}", flush=True)
    for _ in range(args.damages if halves.exists() else 0):
        damage_and_finish(run, root / "damaged", rng.choice(sorted(halves.iterdir())), rng)
    for path in (whole, halves):
        shutil.rmtree(path, ignore_errors=True)


def kill_and_finish(
    run: Run, root: Path, halves: Path, rng: random.Random, most: int, seconds: float, changes: int
) -> None:
    """Kill one run up to `most` times, let it finish, and compare bytes, stored replies and requests."""
    out = root / "killed"
    for _ in range(rng.randint(1, most)):
        at = rng.randint(1, changes) if rng.random() < 0.6 else None
        with run.counted(out) as segment:
            child = run.start(root, out, at=at)
            outcome = child.wait(300 if at else rng.uniform(0, seconds))
            killed = child.kill() if outcome is None else outcome
        if killed.code != -9:  # it had finished, or ended with an error
            settle(run, out, segment, killed, at_kill=False)
            break
        run.counts["kills"] += 1
        run.counts["while writing"] += at is not None
        settle(run, out, segment, None, at_kill=True)
        if any(path.is_file() for path in out.rglob("*")):
            shutil.copytree(out, halves / f"{run.counts['kills']:03}")
    else:
        with run.counted(out) as segment:
            outcome = run.finish(root, out)
        settle(run, out, segment, outcome, at_kill=False)
    run.counts["runs"] += 1
    shutil.rmtree(out, ignore_errors=True)


def settle(run: Run, out: Path, segment: Counter[str], outcome: forked.Outcome | None, *, at_kill: bool) -> None:
    """Add a process's requests, replies and answers to the counts; what a finished run ends with is compared."""
    again = segment["requests"] - segment["stored"]
    run.counts.update({name: segment[name] for name in ("requests", "stored", "answers", "lost")})
    run.counts["in flight at kills" if at_kill else "requested again"] += again
    if at_kill and again > run.in_flight:
        run.counts["requested again"] += again - run.in_flight
    if (again and not at_kill) or segment["lost"]:
        print(f"{run.name}: {dict(segment)}", flush=True)
    if outcome is not None:
        same = outcome.code == 0 and run.digests(out) == run.wanted
        run.counts["same bytes"] += same
        if not same:
            run.counts["OTHER"] += 1
            print(f"{run.name}: exit {outcome.code}: {outcome.text[-500:]!r}", flush=True)


def damage_and_finish(run: Run, out: Path, half: Path, rng: random.Random) -> None:
    """Damage one file of a copy of a half-finished run, and run the command again."""
    shutil.copytree(half, out)
    path = rng.choice([path for path in sorted(out.rglob("*")) if path.is_file()])
    how = damage(path, rng)
    outcome = run.finish(out.parent, out)
    same = outcome.code == 0 and run.digests(out) == run.wanted
    fixed = outcome.code in (2, 74) and "fix: " in outcome.text and "Traceback" not in outcome.text
    run.counts["damaged"] += 1
    run.counts["same" if same else "error with fix" if fixed else "OTHER"] += 1
    if not same:
        print(f"{run.name}: {how} {path.relative_to(out)}: {outcome.code} {outcome.text[-300:]!r}", flush=True)
    shutil.rmtree(out)


if __name__ == "__main__":
    main()
