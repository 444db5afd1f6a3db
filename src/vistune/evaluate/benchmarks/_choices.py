"""Reads which choice an answer in free text names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LETTERS = (
    re.compile(r"\(?([A-Z])(?:[).:,]|\s*$)"),
    re.compile(r"(?i:(?:the )?(?:correct )?(?:answer|option|choice)(?: is)?)\W*([A-Z])(?:[).:,\s]|$)"),
)
"""How an answer begins that names a letter."""


def read_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer names, by its letter or by its text; None where it names none, or several.

    A letter counts at the beginning ("B", "(B)", "B. a dog", "The answer is B"). Otherwise the answer must hold the
    text of exactly one choice; of a choice that is part of another one ("dog", "hot dog") the longer one counts.
    """
    text = answer.strip()
    letter = next((match for form in _LETTERS if (match := form.match(text))), None)
    if letter and (index := ascii_uppercase.index(letter[1])) < len(choices):
        return index
    words = _words(text)
    found = [index for index, choice in enumerate(choices) if f" {_words(choice)} " in f" {words} "]
    whole = [i for i in found if not any(i != j and _words(choices[i]) in _words(choices[j]) for j in found)]
    return whole[0] if len(whole) == 1 else None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
