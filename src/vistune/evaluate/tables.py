"""Scores as tables: in the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from vistune.evaluate.results import Scores
from vistune.evaluate.statistics import Measure
from vistune.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Cell:
    """A score on the scale of its benchmark, usually per cent, with its 95 % interval.

    `right` of `of` cases make it where it is a share; for other scores `right` is the sum of points, or None.
    """

    score: float | None
    of: int
    right: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def percent(cls, measure: Measure, right: float | None = None) -> Self:
        """The cell of a share or ratio."""
        bounds = (None if one is None else 100 * one for one in (measure.value, measure.low, measure.high))
        score, low, high = bounds
        return cls(score, measure.n, right, low, high)

    def short(self) -> str:
        """`93.1 ±1.9`, half of the interval's width; a dash where there was nothing to measure."""
        if self.score is None or self.low is None or self.high is None:
            return str(self)
        return f"{self.score:.1f} ±{(self.high - self.low) / 2:.1f}"

    def __str__(self) -> str:
        """`93.1 (91.0-94.8)`; a dash where there was nothing to measure."""
        if self.score is None:
            return "-"
        interval = "" if self.low is None or self.high is None else f" ({self.low:.1f}-{self.high:.1f})"
        return f"{self.score:.1f}{interval}"


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The cells of one answer file by name, and counts that belong beside them: missing, unparsed, extra answers."""

    title: str
    cells: Mapping[str, Cell]
    counts: Mapping[str, int] = field(default_factory=dict)


def tables_json(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """The tables with every cell as counts (`right`, `of`) and `score`."""
    return {"tables": [asdict(table) for table in tables]}


def print_tables(tables: Sequence[ScoreTable], console: Console | None = None) -> None:
    """Print each table: a row a cell with its score, its interval and its counts."""
    for one in tables:
        table = Table("", "score (95 % interval)", "right", "of", title=one.title)
        for name, cell in one.cells.items():
            right = "" if cell.right is None else f"{cell.right:,.10g}"
            table.add_row(name, str(cell), right, f"{cell.of:,}")
        (console or Terminal()).print(table)
        if one.counts:
            (console or Terminal()).print(", ".join(f"{name}: {count:,}" for name, count in one.counts.items()))


def print_scores(scores: Sequence[Scores], console: Console | None = None) -> None:
    """Print the scores as a table, one column a model, with their intervals; the models have the same benchmarks."""
    table = Table("", title="Scores, % (95 % interval)")
    for column in scores:
        table.add_column(column.label, justify="right")
    for name, benchmark in scores[0].benchmarks.items():
        table.add_row(name, *[f"n = {column.benchmarks[name].n:,}" for column in scores], style="bold")
        for metric in benchmark.measures:
            table.add_row(metric, *[str(Cell.percent(column.benchmarks[name].measures[metric])) for column in scores])
        if any(column.benchmarks[name].unscored for column in scores):
            table.add_row("unscored answers", *[f"{column.benchmarks[name].unscored:,}" for column in scores])
        table.add_section()
    (console or Terminal()).print(table)
