"""Public benchmarks as tables: VLMEvalKit's TSV files (MMBench, MMStar, SEED, AI2D …) and `hub:` data sets.

The columns say what a question is: multiple choice (choices in A, B, … or a list), yes or no, or a short answer.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from string import ascii_uppercase
from typing import Any

from vistune.data.questions import ANSWER_WITH_LETTER
from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, Setting, benchmarks
from vistune.evaluate.benchmarks._choices import read_choice
from vistune.evaluate.benchmarks._helpers import read_yes_no
from vistune.evaluate.benchmarks._metrics import only
from vistune.evaluate.benchmarks._table import TableRow, read_table
from vistune.evaluate.benchmarks._vqa_text import accuracy as vqa_accuracy
from vistune.evaluate.benchmarks._vqa_text import normalise
from vistune.evaluate.statistics import Measure, share
from vistune.records import Question, Verdict

_ROTATION = 1_000_000
"""MMBench's files number the further rotations of question n as n + 1,000,000, n + 2,000,000 …"""
_INSTRUCTIONS = {
    "letter": ANSWER_WITH_LETTER,
    "text": "Answer with the text of one of the options.",
    "": "Answer the question using a single word or phrase.",
}
"""What ends a prompt, by how a choice is given; "" is for questions without choices. LLaVA-1.5's, but for texts."""


@benchmarks.register("tsv")
class Table(Benchmark):
    """The questions of a table. A choice is answered with its letter or, with the option `choice`, otherwise.

    `text` is the text of a choice. `likelihood` compares the likelihoods of the choices as answers to the question
    alone: per token, and their sums as `accuracy_sum`.

    With the option `circular` every rotation of the choices is a question of its own, as in MMBench's files.
    """

    max_new_tokens: int = 64

    def __init__(self, setting: Setting, questions: Sequence[Question] = ()) -> None:
        super().__init__(setting)
        self._given = list(questions)

        self.by_likelihood = _by(setting) == "likelihood"

    def questions(self) -> Iterable[Question]:
        """In the order of the table; the type is the column `category`."""
        return self._all

    @cached_property
    def _all(self) -> list[Question]:
        return self._given or table_questions(self.setting)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How choices are answered."""
        return {"choice": _by(self.setting), "circular": self._circular}

    def score(self, question: Question, answer: str) -> Verdict:
        """Right or wrong; of short answers VQA accuracy (`vqa-normalised`). What cannot be read is unscored."""
        if question.choices:
            return (_score_likelihoods if self.by_likelihood else _score_choice)(question, answer)
        if not question.references:
            return Verdict(None, answer, "the right answer is not published")
        if not set(question.references) <= {"yes", "no"}:
            value = vqa_accuracy(answer, question.references)
            return Verdict(value, normalise(answer), f"{value:.0%} of the agreement that is needed")
        read, how = read_yes_no(answer, question.text)
        return Verdict(None, "", how) if read is None else Verdict(float(read in question.references), read, how)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`circular` (right in all rotations) where there are rotations, and `accuracy`; by l2-category and split."""
        metrics: dict[str, Metric] = {"circular": circular} if self._circular else {}
        metrics["accuracy"] = _accuracy
        if self.by_likelihood:
            metrics["accuracy_sum"] = _accuracy_of_sums
        headline, metric = next(iter(metrics.items()))
        for column in ("l2-category", "split"):
            values = {str(question.details[column]) for question in self._all} - {""}
            if len(values) > 1:
                metrics |= {f"{headline}/{value}": only(metric, _has(column, value)) for value in sorted(values)}
        return metrics

    @cached_property
    def _circular(self) -> bool:
        return any(question.details["rotations"] > 1 for question in self._all)


def table_questions(setting: Setting, *, unpack: bool = True) -> list[Question]:
    """The questions of a table. `unpack` writes images that stand in it as base64 to files. Raises DataError."""
    questions = list(_questions(setting, unpack))
    rotations = Counter(question.details["group"] for question in questions)
    return [replace(one, details={**one.details, "rotations": rotations[one.details["group"]]}) for one in questions]


def _questions(setting: Setting, unpack: bool) -> Iterator[Question]:
    by = _by(setting)
    for row in read_table(setting, unpack=unpack):
        if not row.choices:
            prompt = "\n".join(filter(None, (row.hint, row.question, _INSTRUCTIONS[""] if row.answers else "")))
            references = tuple(one.lower() if one.lower() in ("yes", "no") else one for one in row.answers)
            yield _question(row, row.index, row.index, prompt, references, (), None)
            continue
        shifts = range(len(row.choices)) if setting.options.get("circular") and not _is_rotation(row.index) else [0]
        for shift in shifts:
            choices = (*row.choices[shift:], *row.choices[:shift])
            answer = None if row.answer is None else (row.answer - shift) % len(choices)
            references = () if answer is None else (choices[answer],)
            name = f"{row.index}/{shift}" if shift else row.index
            prompt = choice_prompt(row, choices, by)
            yield _question(row, name, _group(row.index), prompt, references, choices, answer)


def choice_prompt(row: TableRow, choices: Sequence[str], by: str) -> str:
    """Hint, question, and the choices, with letters if the answer is one; for likelihoods without them."""
    listed = [
        f"{letter}. {text}" if by == "letter" else f"- {text}"
        for letter, text in zip(ascii_uppercase, choices, strict=False)
    ]
    after = [] if by == "likelihood" else [*listed, _INSTRUCTIONS[by]]
    return "\n".join(filter(None, (row.hint, row.question, *after)))


def circular(scored: Sequence[Scored]) -> Measure:
    """The share of questions that are right in all their rotations (MMBench's circular evaluation).

    A question of which a rotation is missing does not count.
    """
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[one.question.details["group"]].append(one)
    whole = [group for group in groups.values() if len(group) == group[0].question.details["rotations"]]
    right = [all(one.verdict.value == 1 for one in group) for group in whole]
    return share(right, [group[0].question.cluster for group in whole])


def _accuracy(scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.value or 0.0 for one in scored], [one.question.cluster for one in scored])


def _score_choice(question: Question, answer: str) -> Verdict:
    index = read_choice(answer, question.choices)
    if index is None:
        return Verdict(None, "", "names no choice" if answer.strip() else "is empty")
    letter = ascii_uppercase[index]
    if question.details["answer"] is None:
        return Verdict(None, letter, "the right choice is not published")
    return Verdict(float(index == question.details["answer"]), letter, f"chooses {letter}. {question.choices[index]}")


def _score_likelihoods(question: Question, answer: str) -> Verdict:
    """Right if the choice with the highest log-likelihood per token is; `parts["sum"]` is by that of all tokens."""
    found, right = json.loads(answer), question.details["answer"]
    by_token, by_sum = (max(range(len(found)), key=values.__getitem__) for values in (
        [total / tokens for total, tokens in found], [total for total, _ in found]
    ))  # fmt: skip
    if right is None:
        return Verdict(None, question.choices[by_token], "the right choice is not published")
    how = ", ".join(f"{text}: {total / n:.2f}" for text, (total, n) in zip(question.choices, found, strict=True))
    chosen = question.choices[by_token]
    return Verdict(float(by_token == right), chosen, f"per token: {how}", {"sum": float(by_sum == right)})


def _accuracy_of_sums(scored: Sequence[Scored]) -> Measure:
    known = [one for one in scored if "sum" in one.verdict.parts]
    return share([one.verdict.parts["sum"] for one in known], [one.question.cluster for one in known])


def _question(
    row: TableRow, name: str, group: str, prompt: str, references: tuple[str, ...], choices: tuple[str, ...],
    answer: int | None,
) -> Question:  # fmt: skip
    details = {"group": group, "answer": answer, "l2-category": row.l2_category, "split": row.split}
    return Question(name, prompt, row.images, row.category, references, choices, details)


def _has(column: str, value: str) -> Callable[[Scored], bool]:
    return lambda one: bool(one.question.details[column] == value)


def _by(setting: Setting) -> str:
    return str(setting.options.get("choice") or "letter")


def _is_rotation(index: str) -> bool:
    return index.isdecimal() and int(index) >= _ROTATION


def _group(index: str) -> str:
    """The index of a question's first rotation."""
    return str(int(index) % _ROTATION) if index.isdecimal() else index
