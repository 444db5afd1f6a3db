"""The commands that kill_runs.py kills, what they have stored, and how their files are damaged."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import forked

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from generating import annotations
from judge_server import write_bench

IMAGES, CONCURRENCY = 100, 8
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass
class Run:
    """A command, the patterns of the files that it ends with, and the server that it sends requests to."""

    name: str
    line: list[str]
    results: tuple[str, ...]
    server: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    wanted: list[str] = field(default_factory=list)
    in_flight: int = CONCURRENCY

    def start(self, root: Path, out: Path, *, at: int | None = None) -> forked.Child:
        """The command, which kills itself at its `at`-th change of a file."""
        before = watched(out, at, root / "changes") if at is not None else lambda: None
        return forked.start([*self.line, "--out", str(out)], root, root / "output.txt", before=before)

    def finish(self, root: Path, out: Path) -> forked.Outcome:
        """How the command ends."""
        outcome = self.start(root, out).wait(600)
        assert outcome, f"{self.name} hangs"
        return outcome

    def digests(self, out: Path) -> list[str]:
        """The hashes of the results."""
        files = [path for pattern in self.results for path in sorted(out.glob(pattern))]
        return [sha256(path.read_bytes()).hexdigest() for path in files]

    @contextmanager
    def counted(self, out: Path) -> Iterator[Counter[str]]:
        """What happens inside: requests that reach the server, replies and answers that are stored, or lost."""
        sent, before, result = requests(self.server), stored(out), Counter[str]()
        yield result
        after = stored(out)
        result["requests"] = requests(self.server) - sent
        result["stored"] = len(after["replies"].keys() - before["replies"].keys())
        result["answers"] = len(after["answers"].keys() - before["answers"].keys())
        result["lost"] = sum(after[kind].get(key) != one for kind, rows in before.items() for key, one in rows.items())


def make_runs(base: Path, teacher: str, judge: str) -> list[Run]:
    """The three commands."""
    data = base / "data.jsonl" if (base / "data.jsonl").exists() else annotations(base, IMAGES)
    bench = base / "bench" if (base / "bench").exists() else write_bench(base / "bench", images=4)
    generate = [
        "generate", str(data), "--source", "caps_boxes", "--teacher", "openai:teacher-1", "--base-url",
        f"{teacher}/v1", "--kinds", "conversation=all", "--concurrency", str(CONCURRENCY),
    ]  # fmt: skip
    evaluate = [
        "eval", str(base / "ck"), "--data", str(base / "coco"), "--split", "train", "--limit", "3", "--batch-size", "4",
        "--benchmarks", f"scene_qa,llava_bench={bench}", "--judge", "openai:teacher-1", "--judge-base-url",
        f"{judge}/v1", "--concurrency", str(CONCURRENCY),
    ]  # fmt: skip
    instruct = ("instruct.json", "align.json", "provenance.jsonl", "rejected.jsonl", "recipe.yaml")
    return [
        Run("train", ["train", str(base / "both.yaml")], ("*/*.safetensors", "*/*.json", "*/adapter/*.safetensors")),
        Run("generate", generate, instruct, teacher),
        Run("eval", evaluate, ("verdicts.jsonl", "scores.json"), judge),
    ]


def requests(server: str) -> int:
    """The number of requests that have reached a server, when no more arrive."""
    if not server:
        return 0
    count, before = -1, -2
    while count != before:
        time.sleep(0.05)
        with urllib.request.urlopen(f"{server}/stats") as reply:
            stats = json.load(reply)
        before, count = count, int(stats["requests"])
    return count


def stored(out: Path) -> dict[str, dict[Any, Any]]:
    """The replies and answers of a run's folder by their keys."""
    replies, answers = {}, {}
    path, lines = out / "replies.sqlite", out / "answers.jsonl"
    if path.exists():
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
                replies = dict(store.execute("SELECT key, text FROM replies"))
                # a server's support of schemas takes one request
                replies |= dict(store.execute("SELECT name, value FROM meta WHERE name LIKE 'schema:%'"))
        except sqlite3.OperationalError:  # killed before it had tables
            assert not replies
    if lines.exists():
        rows = [json.loads(line) for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
        answers = {row["key"]: row["text"] for row in rows}
        assert len(answers) == len(rows), "an answer was generated twice"
    return {"replies": replies, "answers": answers}


def watched(out: Path, at: int, tally: Path) -> Callable[[], None]:
    """What makes a process kill itself at its `at`-th change of a file below `out`; each is a byte in `tally`."""

    def begin() -> None:
        file, prefix, seen = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.fsdecode(out), 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if (event == "open" and _writes(*arguments)) or event in _CHANGES:
                if isinstance(arguments[0], int) or not os.fsdecode(arguments[0]).startswith(prefix):
                    return
                seen += 1
                os.write(file, b".")
                if seen == at:
                    os.killpg(0, signal.SIGKILL)

        sys.addaudithook(hook)

    return begin


def _writes(_: Any, mode: str | None, flags: int) -> bool:
    return bool({*"wxa+"} & {*mode}) if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))


def count_changes(run: Run, root: Path, out: Path) -> tuple[int, forked.Outcome]:
    """How often a whole run changes a file, and how it ends."""
    outcome = run.start(root, out, at=0).wait(600)
    assert outcome, f"{run.name} hangs"
    return (root / "changes").stat().st_size, outcome


def damage(path: Path, rng: random.Random) -> str:
    """Change a byte, cut the file off, or put zeros or garbage into it; what was done."""
    content = bytearray(path.read_bytes() or b" ")
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
