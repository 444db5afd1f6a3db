from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks import Benchmark, Scored, Setting, benchmarks
from vistune.evaluate.benchmarks._metrics import accuracy
from vistune.evaluate.compare import metric_difference, print_comparison, print_power
from vistune.evaluate.runner import run_benchmarks
from vistune.evaluate.statistics import difference
from vistune.records import ImageRecord, Question, Verdict

Says = type


def answers(right: np.ndarray) -> list[Scored]:
    """Scored questions, three an image."""
    return [
        Scored(Question(str(n), "?", (Path(f"{n // 3}.png"),)), Verdict(float(value))) for n, value in enumerate(right)
    ]


def test_the_jackknife_gives_the_interval_of_a_paired_difference() -> None:
    random = np.random.default_rng(0)
    a, b = random.random(240) < 0.8, random.random(240) < 0.7
    found = metric_difference(accuracy, answers(a), answers(b))
    known = difference(a, b, [n // 3 for n in range(240)])
    assert found.value == pytest.approx(known.value)
    assert found.high - found.value == pytest.approx(known.high - known.value, rel=0.05)
    half = metric_difference(accuracy, answers(a), answers(b)[:120])
    assert half.n == 120


def test_a_table_of_two_runs(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    def made(name: str) -> dict[str, Benchmark]:
        return {name: benchmarks.get(name)(Setting(annotated=records))}

    run_benchmarks(says(lambda *_: "No."), made("scene_qa"), tmp_path / "before")
    run_benchmarks(says(lambda *_: "Two."), made("scene_qa"), tmp_path / "after")
    text = io.StringIO()
    print_comparison([tmp_path / "before", tmp_path / "after"], Console(file=text, width=200))
    row = next(line for line in text.getvalue().splitlines() if "existence" in line)
    assert "50.0 (" in row
    assert "-50.0 (" in row
    assert row.rstrip(" │").endswith("*")
    run_benchmarks(says(lambda *_: "No."), made("chair"), tmp_path / "other")
    print_comparison([tmp_path / "before", tmp_path / "other"], Console(file=text, width=200))
    assert "no benchmark in common" in text.getvalue()


def test_the_questions_that_a_difference_needs(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    made = {"scene_qa": benchmarks.get("scene_qa")(Setting(annotated=records))}
    run_benchmarks(says(lambda *_: "No."), made, tmp_path / "no")
    run_benchmarks(says(lambda *_: "Yes."), made, tmp_path / "yes")

    def questions(*runs: str, points: float) -> int:
        text = io.StringIO()
        print_power([tmp_path / run for run in runs], points / 100, Console(file=text, width=120))
        row = next(line for line in text.getvalue().splitlines() if "scene_qa" in line)
        assert ("measured" if len(runs) > 1 else "assumed") in row
        return int(row.split("│")[2].replace(",", ""))

    assert questions("no", "yes", points=2) == pytest.approx(25 * questions("no", "yes", points=10), rel=0.1)
    assert questions("no", points=2) < questions("no", "yes", points=2)  # these two models hardly agree
    with pytest.raises(VistuneError, match="no variance"):
        questions("no", "no", points=2)
