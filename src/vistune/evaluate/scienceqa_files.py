"""Scores of published ScienceQA answers, without a model: result files, answer files, ensembles of two of them.

{"acc", "correct", "count", "results": {pid: index}, "outputs": {pid: text}}    a result file
{"question_id", "prompt", "text"}                                               a line of LLaVA's answers
{"correct": [{"question_id", "pred", "parsed_ans"}], "incorrect": [...]}        LLaVA's *_output.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vistune.data.scienceqa import LETTERS, Problem, load_problems, split_ids
from vistune.errors import DataError
from vistune.evaluate.scienceqa import CELLS, Pair, Reading, official, stored, tolerant
from vistune.evaluate.statistics import share
from vistune.evaluate.tables import Cell, ScoreTable
from vistune.reading import parse_json, read_bytes

_SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Answers:
    """A model's answers by problem: `results`, the stored indices of choices, and `outputs`, the texts.

    `correct` is the number of right answers that the file itself gives.
    """

    name: str
    results: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    correct: int | None = None

    @property
    def problems(self) -> set[str]:
        """The ids of the problems with an answer."""
        return {*self.results, *self.outputs}

    def stored(self) -> dict[str, Reading]:
        """The stored results."""
        return {pid: stored(index) for pid, index in self.results.items()}

    def official(self, problems: Mapping[str, Problem]) -> dict[str, Reading]:
        """The texts' answers to `problems` by the official rule; a file without texts has only its stored ones."""
        if not self.outputs:
            return self.stored()
        known = self.outputs.keys() & problems.keys()
        return {pid: official(self.outputs[pid], len(problems[pid].choices)) for pid in known}

    def tolerant(self, problems: Mapping[str, Problem]) -> dict[str, Reading]:
        """The texts' answers to `problems` by the tolerant reading."""
        known = self.outputs.keys() & problems.keys()
        return {pid: tolerant(self.outputs[pid], problems[pid].choices) for pid in known}


def scienceqa_tables(
    files: Sequence[Path], *, problems: Path, splits: Path | None = None, second: Path | None = None,
    third: Path | None = None,
) -> list[ScoreTable]:  # fmt: skip
    """The tables of each file: its stored results, the official extraction of its texts, the tolerant one.

    With a `second` model's file also those of the ensembles with it (LLaVA, section 5.2); `third` has its answers to
    the problems where the two differ. `splits` is by default the pid_splits.json beside `problems`; the split is the
    first of test, val and train that has an answered problem. Raises DataError for a file in no known form.
    """
    known = load_problems(problems)
    other, last = (read_answers(path) if path else None for path in (second, third))
    tables: list[ScoreTable] = []
    for path in files:
        answers = read_answers(path)
        chosen = _split(answers, known, problems, splits)
        tables += _own_tables(answers, chosen)
        if other:
            tables += _ensemble_tables(answers, other, last, chosen)
    return tables


def read_answers(path: Path) -> Answers:
    """The answers of a file in any of the forms above; of two answers to a problem the last counts, as with LLaVA.

    Raises DataError.
    """
    content = _parse(path)
    if isinstance(content, dict) and "question_id" in content:
        content = [content]
    elif isinstance(content, dict) and isinstance(content.get("incorrect"), list):
        content = [*content["correct"], *content["incorrect"]]
    if isinstance(content, list):
        return _from_rows(path, content)
    known = content if isinstance(content, dict) else {}
    texts, indices, right = (known.get(key) for key in ("outputs", "results", "correct"))
    if not isinstance(texts, dict) and not isinstance(indices, dict):
        fix = "it has 'results' and 'outputs' by problem, or is a line of 'question_id' and 'text' for each"
        raise DataError("no answers to ScienceQA", where=str(path), fix=fix)
    results = {str(pid): _index(value) for pid, value in (indices or {}).items()}
    outputs = {str(pid): str(text or "") for pid, text in (texts or {}).items()}
    return Answers(path.name, results, outputs, right if isinstance(right, int) else None)


def _parse(path: Path) -> Any:
    """The content of a JSON file, or of JSON lines under whatever ending: LLaVA's *_output.jsonl is one object."""
    data = read_bytes(path, DataError)
    try:
        return parse_json(data, str(path), DataError)
    except DataError as broken:
        if "Extra data" not in broken.what:
            raise
    lines = enumerate(data.splitlines(), 1)
    return [parse_json(line, f"{path}: line {number}", DataError) for number, line in lines if line.strip()]


def _from_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Answers:
    results, outputs = {}, {}
    for number, row in enumerate(rows, 1):
        try:
            pid = str(row["question_id"] if "question_id" in row else row["id"])
            outputs[pid] = str((row["pred"] if "pred" in row else row["text"]) or "")
        except (KeyError, TypeError):
            fix = "each line has question_id and text"
            raise DataError("not an answer to ScienceQA", where=f"{path}: answer {number}", fix=fix) from None
        if "parsed_ans" in row:
            results[pid] = _index(row["parsed_ans"])
    return Answers(path.name, results, outputs)


def _index(value: Any) -> int:
    """A stored answer as the index of a choice; it may be a letter."""
    if isinstance(value, str) and not value.lstrip("-").isdecimal():
        return LETTERS.find(value) if len(value) == 1 else -1
    return int(value) if isinstance(value, int | str) else -1


def _split(answers: Answers, problems: Mapping[str, Problem], path: Path, splits: Path | None) -> dict[str, Problem]:
    """The problems of the split that the answers are about."""
    for ids in split_ids(problems, path, *_SPLITS, splits=splits).values():
        if answers.problems & set(ids):
            return {pid: problems[pid] for pid in ids}
    what = f"none of its {len(answers.problems):,} answers is about a problem of {path}"
    raise DataError(what, where=answers.name, fix="check that the files belong together")


def _own_tables(answers: Answers, problems: Mapping[str, Problem]) -> list[ScoreTable]:
    readings = {}
    if answers.results:
        readings["stored results"] = answers.stored()
    if answers.outputs:
        readings["official extraction"] = answers.official(problems)
        readings["tolerant extraction"] = answers.tolerant(problems)
    return [_table(answers, name, one, problems) for name, one in readings.items()]


def _table(answers: Answers, name: str, readings: Mapping[str, Reading], problems: Mapping[str, Problem]) -> ScoreTable:
    """The cells over the answered problems, and how many answers failed or are missing, in all and by cell."""
    answered = {pid: readings[pid] for pid in problems if pid in readings}
    right = {pid: one.index == problems[pid].answer for pid, one in answered.items()}
    cells = _cells(right, problems)
    if len(answered) < len(problems):
        cells["Avg, missing as wrong"] = _cell(right.get(pid, False) for pid in problems)  # as LLaVA's script counts
    counts = {"answered": len(answered), "extra": len(answers.problems - problems.keys())}
    for cell, belongs in reversed(CELLS.items()):
        inside = [pid for pid, problem in problems.items() if belongs(problem)]
        suffix = "" if cell == "Avg" else f" {cell}"
        counts[f"failed{suffix}"] = sum(answered[pid].failed for pid in inside if pid in answered)
        counts[f"missing{suffix}"] = sum(pid not in answered for pid in inside)
    if name == "stored results" and answers.correct not in (None, sum(right.values())):
        counts["right by the file's own count"] = answers.correct
    shown = {key: count for key, count in counts.items() if count or key in ("answered", "failed", "missing")}
    title = f"{answers.name}: {name} ({len(answered):,} of {len(problems):,} answered)"
    return ScoreTable(title, cells, shown)


def _ensemble_tables(
    first: Answers, second: Answers, third: Answers | None, problems: Mapping[str, Problem]
) -> list[ScoreTable]:
    """How two models' answers relate, and the cells of the ensembles, over the problems that both answered."""
    mine, theirs = first.official(problems), second.official(problems)
    again = third.official(problems) if third else {}
    pairs = {pid: Pair(mine[pid], theirs[pid], again.get(pid)) for pid in problems if pid in mine and pid in theirs}
    title = f"{first.name} with {second.name}"
    if not pairs:
        raise DataError(
            "the two files answer no problem in common", where=title, fix="name answers to the same problems"
        )
    answer = {pid: problems[pid].answer for pid in pairs}
    ensembles = {"complement": {pid: pair.complement == answer[pid] for pid, pair in pairs.items()}}
    if third:
        ensembles["judge"] = {pid: pair.judge == answer[pid] for pid, pair in pairs.items()}
    rights = [(pair.first.index == answer[pid], pair.second.index == answer[pid]) for pid, pair in pairs.items()]
    rows = {
        "first": [one for one, _ in rights], "second": [other for _, other in rights],
        **{name: list(right.values()) for name, right in ensembles.items()},
        "both right": [one and other for one, other in rights],
        "either right (upper bound)": [one or other for one, other in rights],
    }  # fmt: skip
    differ = [pid for pid, pair in pairs.items() if pair.differ]
    counts = {
        "answered by both": len(pairs), "missing": len(problems) - len(pairs), "differ": len(differ),
        "failed first": sum(pair.first.failed for pair in pairs.values()),
        "failed second": sum(pair.second.failed for pair in pairs.values()),
    }  # fmt: skip
    if third:
        counts["differ without a third answer"] = sum(pairs[pid].third is None for pid in differ)
    tables = [ScoreTable(title, {name: _cell(right) for name, right in rows.items()}, counts)]
    return tables + [
        ScoreTable(f"{title}: {name}", _cells(right, problems), counts) for name, right in ensembles.items()
    ]


def _cells(right: Mapping[str, bool], problems: Mapping[str, Problem]) -> dict[str, Cell]:
    return {
        name: _cell(value for pid, value in right.items() if belongs(problems[pid])) for name, belongs in CELLS.items()
    }


def _cell(right: Iterable[bool]) -> Cell:
    values = list(right)
    return Cell.percent(share(values), sum(values))
