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
_LAST_WORDS = 5


def read_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer names, by its letter or by its text; None where it names none, or several.

    A letter counts at the beginning ("B", "(B)", "b", "B. a dog", "The answer is B"). Otherwise the answer must hold
    the text of exactly one choice; of a choice that is part of another one ("dog", "hot dog") the longer one counts.
    Else the only letter among its last five words counts, as in VLMEvalKit ("So it must be B").
    """
    text = answer.strip().strip("*`\"'").strip()
    text = text.upper() if len(text.rstrip(".)")) == 1 else text
    letter = next((match for form in _LETTERS if (match := form.match(text))), None)
    if letter and (index := ascii_uppercase.index(letter[1])) < len(choices):
        return index
    words = _words(text)
    found = [index for index, choice in enumerate(choices) if f" {_words(choice)} " in f" {words} "]
    whole = [i for i in found if not any(i != j and _words(choices[i]) in _words(choices[j]) for j in found)]
    if not found:
        return _last_letter(text, len(choices))
    return whole[0] if len(whole) == 1 else None


def _last_letter(text: str, choices: int) -> int | None:
    words = re.findall(r"\w+", text)
    named = {word for word in words if len(word) == 1 and word in ascii_uppercase[:choices]}
    return ascii_uppercase.index(named.pop()) if len(named) == 1 and named & set(words[-_LAST_WORDS:]) else None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
