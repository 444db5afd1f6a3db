"""How ScienceQA's answers are read, split into the paper's cells, and combined with those of a second model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vistune.data.scienceqa import LETTERS, Problem
from vistune.evaluate.benchmarks._choices import read_choice

# the official rule's dot is no full stop but any character, and there must be one: "The answer is B" alone fails
_STATED = re.compile(r"The answer is ([A-Z]).")
_LAST = re.compile(r"(?i:answer is|answer:)\W{0,4}([A-E])\b")

CELLS: dict[str, Callable[[Problem], bool]] = {
    "NAT": lambda problem: problem.subject == "natural science",
    "SOC": lambda problem: problem.subject == "social science",
    "LAN": lambda problem: problem.subject == "language science",
    "TXT": lambda problem: bool(problem.hint),
    "IMG": lambda problem: bool(problem.image),
    "NO": lambda problem: not problem.hint and not problem.image,
    "G1-6": lambda problem: problem.grade <= 6,
    "G7-12": lambda problem: problem.grade > 6,
    "Avg": lambda _: True,
}
"""The columns of the paper's table: subject, context (text and image overlap), grade, all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was read: the letter, "" where the extraction failed; the index of its choice, else -1."""

    letter: str
    index: int
    how: str = ""

    @property
    def failed(self) -> bool:
        """Whether no letter was extracted. A letter beyond the choices is no failure, but wrong."""
        return not self.letter


def official(text: str, choices: int) -> Reading:
    """The answer by the rules of LLaVA's evaluation (eval_science_qa.py), in their order, for that many choices.

    The text is a letter from A to E; it starts with one and ". "; it holds "The answer is X" and a further character
    exactly once.
    """
    if len(text) == 1 and text in LETTERS:
        return _reading(text, choices, "is one letter")
    if text[1:3] == ". " and text[0] in LETTERS:
        return _reading(text[0], choices, f"starts with '{text[:2]}'")
    stated = _STATED.findall(text)
    if len(stated) == 1:
        return _reading(stated[0], choices, f"says 'The answer is {stated[0]}.'")
    return Reading("", -1, "says 'The answer is X.' more than once" if stated else "has no answer by the official rule")


def tolerant(text: str, choices: tuple[str, ...]) -> Reading:
    """Our own reading: the official one, else the last stated letter ("The answer is (B)"), else a choice's text."""
    reading = official(text, len(choices))
    if not reading.failed:
        return reading
    if stated := _LAST.findall(text):
        return _reading(stated[-1], len(choices), "states a letter last")
    index = read_choice(text, choices)
    return reading if index is None else Reading(LETTERS[index], index, "names a choice")


def stored(index: int) -> Reading:
    """The answer that a result file stores as an index; -1 is a failed one."""
    return Reading(LETTERS[index], index, "is stored") if 0 <= index < len(LETTERS) else Reading("", -1, "is stored")


class Pair(NamedTuple):
    """Two models' answers to a problem; `third` is the second model's answer when it knows both."""

    first: Reading
    second: Reading
    third: Reading | None = None

    @property
    def differ(self) -> bool:
        """Whether the judge is requested."""
        return self.first.index != self.second.index

    @property
    def complement(self) -> int:
        """The second model's answer, and the first's where the second failed."""
        return self.first.index if self.second.failed else self.second.index

    @property
    def judge(self) -> int:
        """The answer that both gave, else the third; where it is missing or failed, the first model's."""
        if not self.differ or self.third is None or self.third.failed:
            return self.first.index
        return self.third.index


def _reading(letter: str, choices: int, how: str) -> Reading:
    index = LETTERS.find(letter)
    return Reading(letter, index if index < choices else -1, how)
