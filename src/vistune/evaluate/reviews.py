"""Reviews: a judge's scores, from 1 to 10, for a reference and an answer to the same question.

The relative score of the answers is the sum of their points over that of the references (LLaVA, section 5.1). The
published numbers round first: each mean to 3 decimals, then 100 times their ratio to 1 decimal; this is called official
rounding here. The official code also averages replies in (as -1, -1) that it cannot read; here they are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from vistune.errors import DataError
from vistune.evaluate.statistics import Measure, ratio
from vistune.evaluate.tables import Cell, ScoreTable
from vistune.formats import Row, read_as
from vistune.resources import word_list

UNPARSED = (-1.0, -1.0)
"""What LLaVA's files hold for a reply without two scores."""
_CONTENT = ("content", "text")
_STORED = ("tuple", "score")
_REPARSED = ", reparsed"
_VERDICT_WORDS = "vistune.evaluate", "verdict_words.txt"
_SCALE = re.compile(r"/ ?10\b|\bout of (?:10|ten)\b|\b(?:scale )?(?:of |from )?1 ?(?:-|–|to) ?10\b", re.IGNORECASE)
_LABEL = re.compile(r"\b(?:assistant|answer|response|model|ai)(?:'s)? ?#?([12ab])\b(?:'s)?", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w./-])-?\d+(?:\.\d+)?(?![\w%]|\.\d|[/–-]\d)")


class Pair(NamedTuple):
    """The points of a reference and of an answer; `cluster` names the image."""

    reference: float
    answer: float
    cluster: str


def first_line_scores(text: str) -> tuple[float, float] | None:
    """The two numbers that are the whole first line, separated by one space or comma: the official rule."""
    words = text.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, words)
    except ValueError:
        return None
    return first, second


def read_scores(text: str) -> tuple[float, float] | None:
    """The two scores, from 1 to 10, of a reply: on its first line, else in its last line or sentence that has nothing
    but a verdict, such as `(8, 9)` or `Assistant 1: 8/10, Assistant 2: 9/10`; labels decide which is which.
    """
    found = first_line_scores(text)
    if found:
        return found if valid(found) else None
    lines = [line for line in text.splitlines() if line.strip()]
    joined = [f"{line} {following}" for line, following in pairwise(lines)]
    sentences = [part for line in lines for part in (*re.split(r"(?<=[.!?])\s+", line), line.rpartition(":")[2])]
    candidates = [*lines[:1], *reversed([*joined, *sentences, *lines])]
    return next((scores for one in candidates if (scores := _verdict(one))), None)


def valid(scores: Sequence[float]) -> bool:
    """Whether both are from 1 to 10."""
    return all(1 <= score <= 10 for score in scores)


def _verdict(line: str) -> tuple[float, float] | None:
    """The scores in a text that has nothing else."""
    labels = [label.lower() for label in _LABEL.findall(line)]
    text = _SCALE.sub(" ", _LABEL.sub(" ", line))
    numbers = [float(number) for number in _NUMBER.findall(text)]
    words = re.findall(r"[^\W_]+", _NUMBER.sub(" ", text).lower())
    if len(numbers) != 2 or not valid(numbers) or not word_list(*_VERDICT_WORDS).issuperset(words):
        return None
    first, second = reversed(numbers) if labels in (["2", "1"], ["b", "a"]) else numbers
    return first, second


def relative_score(pairs: Sequence[Pair], *, official: bool = False) -> Measure:
    """The points of the answers over those of the references, as a ratio of sums, or with the official rounding.

    Its interval is that of the ratio, by clusters; `n` is the number of pairs, `total` the sum of the answers' points.
    """
    found = ratio([(pair.answer, pair.reference) for pair in pairs], [pair.cluster for pair in pairs])
    if found.value is None:
        return found
    return replace(found, value=_official(pairs) / 100 if official else found.value, n=len(pairs))


def _official(pairs: Sequence[Pair]) -> float:
    """The relative score in per cent as LLaVA's code prints it."""
    reference = round(fmean(pair.reference for pair in pairs), 3)
    answer = round(fmean(pair.answer for pair in pairs), 3)
    return round(answer / reference * 100, 1)


@dataclass(frozen=True, slots=True)
class _Review:
    """A row of a review file: the scores that it stores, and those that are read where it stores none."""

    about: tuple[str, ...]
    """The question and both answers, by their ids."""
    category: str
    cluster: str
    stored: tuple[float, float]
    reparsed: tuple[float, float] | None

    @property
    def unparsed(self) -> bool:
        return min(self.stored) < 0

    def pair(self, scores: tuple[float, float]) -> Pair:
        return Pair(*scores, self.cluster)


_Choice = Callable[[_Review], tuple[float, float] | None]


def _as_stored(review: _Review) -> tuple[float, float] | None:
    return review.stored


def _parsed(review: _Review) -> tuple[float, float] | None:
    return None if review.unparsed else review.stored


def _reparsed(review: _Review) -> tuple[float, float] | None:
    return review.reparsed if review.unparsed else review.stored


def review_tables(files: Sequence[Path], *, protocol: str = "both-orders") -> list[ScoreTable]:
    """The scores of review files in LLaVA's or Vicuna's shape, one table a file, by category and over all.

    Of several files that review the same answers, the runs of a judge, there is also a table of their mean and
    standard deviation. Each score is given twice, as a ratio of sums without the unparsed replies, and as the official
    code prints it, with its rounding and with unparsed replies as (-1, -1); the one of `protocol` (`paper`: official)
    has the plain name. Where replies are unparsed, scores `reparsed` read them by the tolerant rule of `read_scores`.

    The files do not name the images: intervals take questions as independent. Raises DataError for other files.
    """
    runs = {path: _read(path) for path in files}
    paper = protocol == "paper"
    tables = {path: _table(str(path), rows, paper=paper) for path, rows in runs.items()}
    means = []
    by_answers: dict[frozenset[tuple[str, ...]], list[Path]] = {}
    for path, rows in runs.items():
        by_answers.setdefault(frozenset(row.about for row in rows), []).append(path)
    for paths in by_answers.values():
        if len(paths) > 1:
            pooled = _table("", [row for path in paths for row in runs[path]], paper=paper)
            means.append(_mean_table([tables[path] for path in paths], pooled))
    return [*tables.values(), *means]


def _read(path: Path) -> list[_Review]:
    rows = list(read_as(path, DataError, _review))
    if not rows:
        raise DataError(
            "there are no reviews here",
            where=str(path),
            fix="name the reviews of `vistune eval` with a judge, or LLaVA's",
        )
    return rows


def _review(row: Row) -> _Review:
    values = row.values
    content = next((values[name] for name in _CONTENT if isinstance(values.get(name), str)), None)
    stored = next((values[name] for name in _STORED if values.get(name) is not None), None)
    if "question_id" not in values or (stored is None and content is None):
        fix = "a row has question_id, and the scores as 'tuple' or 'score', or the judge's reply as 'content' or 'text'"
        raise DataError("this is not a review", where=row.where, fix=fix)
    try:
        first, second = map(float, stored) if stored is not None else first_line_scores(content or "") or UNPARSED
    except (TypeError, ValueError, OverflowError):
        first = second = math.nan
    if not math.isfinite(first + second):
        raise DataError(f"{str(stored)[:80]} are not two scores", where=row.where)
    about = tuple(str(values.get(name)) for name in ("question_id", "answer1_id", "answer2_id"))
    cluster = str(values.get("image", values["question_id"]))
    return _Review(about, str(values.get("category") or ""), cluster, (first, second), read_scores(content or ""))


def _table(title: str, rows: Sequence[_Review], *, paper: bool) -> ScoreTable:
    unparsed = [row for row in rows if row.unparsed]
    groups: dict[str, Sequence[_Review]] = {"all": rows}
    groups |= {name: [row for row in rows if row.category == name] for name in sorted({row.category for row in rows})}
    groups.pop("", None)
    cells = {}
    for group, members in groups.items():
        for official in (paper, not paper):
            name = group if official == paper else f"{group}, {'official rounding' if official else 'ratio of sums'}"
            cells[name] = _cell(members, _as_stored if official else _parsed, official=official)
            if any(row.unparsed for row in members):
                cells[name + _REPARSED] = _cell(members, _reparsed, official=official)
    counts = {
        "reviews": len(rows),
        "unparsed as stored": len(unparsed),
        "of these reparsed": sum(row.reparsed is not None for row in unparsed),
    }
    return ScoreTable(title, cells, counts)


def _cell(rows: Iterable[_Review], choice: _Choice, *, official: bool) -> Cell:
    pairs = [row.pair(scores) for row in rows if (scores := choice(row))]
    measure = relative_score(pairs)
    cell = Cell.percent(measure, measure.total)
    return replace(cell, score=_official(pairs)) if official and measure.value is not None else cell


def _mean_table(runs: Sequence[ScoreTable], pooled: ScoreTable) -> ScoreTable:
    """The mean of the runs' scores with the interval over the questions, and the standard deviation between runs."""
    cells: dict[str, Cell] = {}
    for name, cell in pooled.cells.items():
        plain = name.removesuffix(_REPARSED)  # that of a run without unparsed replies
        known = [score for run in runs if (score := run.cells.get(name, run.cells[plain]).score) is not None]
        if len(known) == len(runs):
            cells[name] = replace(cell, score=fmean(known))
            cells[f"{name}, SD"] = Cell(stdev(known), len(known))
    titles = ", ".join(run.title for run in runs)
    return ScoreTable(f"mean of {len(runs)} runs of the judge: {titles}", cells, pooled.counts)
