"""Reads an answer in free text to a question with one exact answer."""

from __future__ import annotations

import re

from vistune.scene.english import NUMBERS, listed
from vistune.scene.mentions import MentionFinder

_SAME = {"upper": "top", "lower": "bottom", "middle": "center", "centre": "center", "central": "center"}
_SAME |= {"topmost": "top", "bottommost": "bottom", "leftmost": "left", "rightmost": "right"}
_REGIONS = ("top", "bottom", "left", "right", "center")
_WHOLE = "image|picture|photo|photograph|scene|frame"
# "to the left of the dog" is no region of the image, "to the left of the image" is one
_RELATION = re.compile(rf"\b(?:left|right|top|bottom) (?:side )?of (?!(?:(?:the|this) )?(?:{_WHOLE})\b)")


def read_answer(kind: str, text: str, question: str, finder: MentionFinder) -> tuple[str | None, str]:
    """The answer in `text` to a question of type `kind`, in the form of a reference answer, and how it was read.

    Case, punctuation and articles do not matter; the answer may be a sentence. The first is None for a text without
    an answer of that kind (as an empty one); the second is then the reason.
    """
    words = re.findall(r"[a-z]+|\d+", text.lower())
    if not words:
        return None, "is empty"
    if kind in ("existence", "relation"):
        return _yes_or_no(words)
    if kind == "count":
        return _number(words)
    return _region(text.lower()) if kind == "position" else _object(text, question, finder)


def _yes_or_no(words: list[str]) -> tuple[str | None, str]:
    if words[0] in ("yes", "no"):
        return words[0], f"says {words[0]}"
    return None, "starts with neither yes nor no"


def _number(words: list[str]) -> tuple[str | None, str]:
    values = {word: str(value) for value, word in enumerate(NUMBERS)} | {"no": "0", "none": "0"}
    for word in words:
        value = str(int(word)) if word.isdigit() else values.get(word)
        if value:
            return NUMBERS[int(value)] if int(value) < len(NUMBERS) else value, f"counts {value}"
    return None, "has no number"


def _region(text: str) -> tuple[str | None, str]:
    """The region that the first sentence with one names: `in the lower part, on the left` is `bottom left`."""
    for sentence in re.split(r"[.!?;\n]", text):
        words = re.findall(r"[a-z]+", _RELATION.sub(" ", sentence))
        named = {_SAME.get(word, word) for word in words} & set(_REGIONS)
        sides = [region for region in _REGIONS[:4] if region in named]
        if {"top", "bottom"} <= named or {"left", "right"} <= named:
            return None, f"names several regions: {listed(sides)}"
        if named:
            region = " ".join(sides) or "center"
            return region, f"says {region}"
    return None, "names no region"


def _object(text: str, question: str, finder: MentionFinder) -> tuple[str | None, str]:
    given = finder.find(question)
    for category in finder.find(text):
        if category not in given:
            return category, f"names {category}"
    return None, "names no known object" if not given else "names no object but the question's"
