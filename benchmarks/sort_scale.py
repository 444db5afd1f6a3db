"""What sorting, writing and reporting on N replies costs, without parsing, filters and the store of replies.

    python benchmarks/sort_scale.py            # 10,000, then 1,000,000 samples, each in a process of its own

Prints CPU time a sample and the peak memory. A sample has one to six pairs of question and answer of varied words.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vistune.generate.judged import Judged
from vistune.generate.report import Report
from vistune.generate.sort import Style, write_sorted
from vistune.generate.spool import Spool
from vistune.records import Turn

KINDS = {"conversation": (6, 16), "detail": (1, 78), "reasoning": (1, 113)}
"""The most pairs a sample and the mean words an answer (as in quality/references.yaml)."""
CATEGORIES = ("dog", "wine glass", "person", "car", "bus", "cat", "chair")


def samples(count: int) -> Iterator[Judged]:
    """Varied samples, every twentieth rejected, the same every time."""
    draw = random.Random(0)
    words = ["the", "is", "a", "of", *CATEGORIES, *(f"word{number}" for number in range(20_000))]
    for number in range(count):
        kind = list(KINDS)[number % 3]
        most, mean = KINDS[kind]
        turns = [
            turn for _ in range(draw.randint(1, most))
            for turn in (Turn("user", f"What is the {draw.choice(words)} {draw.choice(words)} doing with the dog?"),
                         Turn("assistant", " ".join(draw.choices(words, k=draw.randint(mean // 2, mean * 3 // 2)))))
        ]  # fmt: skip
        about: dict[str, Any] = {
            "id": f"{number // 3:012}-{kind}", "record": f"{number // 3:012}", "image": f"train/{number // 3:012}.jpg",
            "kind": kind, "teacher": "a-model", "model": "a-model-2026-01-01", "prompt": "0" * 64, "format": "text",
            "seed": draw.getrandbits(31), "request": f"{draw.getrandbits(256):064x}",
            "usage": {"input": 1_000, "output": 200, "cached": 800}, "cost": 0.0001, "attempts": 1, "repairs": [],
        }  # fmt: skip
        bad = number % 20 == 0
        about |= {"verdict": "filtered" if bad else "accepted", "reasons": ["leak"] if bad else []}
        yield Judged(about, tuple(turns), "\n".join(turn.text for turn in turns), CATEGORIES[: number % 7])


def measure(count: int) -> None:
    """CPU seconds of making the samples, of all, and the peak memory in bytes."""
    start = time.process_time()
    for _ in samples(count):
        pass
    made = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        report = Report(KINDS)
        spool = Spool(Path(folder))
        for place, one in enumerate(samples(count)):
            spool.put(place, one)
        write_sorted(spool, report, Path(folder), Style("random"), seed=0)
        spool.close()
        report.write(Path(folder) / "report.json")
    used = time.process_time() - start - 2 * made
    print(used / count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Measure each size in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one)
        return
    table = Table("samples", "CPU a sample", "peak memory", "growth a sample")
    before = None
    for size in args.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds, peak = map(float, out)
        growth = f"{(peak - before[1]) / (size - before[0]):.1f} B" if before else ""
        table.add_row(f"{size:,}", f"{1e3 * seconds:.3f} ms", f"{peak / 1e6:.0f} MB", growth)
        before = (size, peak)
    Console().print(table)


if __name__ == "__main__":
    main()
