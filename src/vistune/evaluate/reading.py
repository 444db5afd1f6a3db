"""What an answer in free words says, for questions with one exact answer."""

from __future__ import annotations

import re

from vistune.scene.english import NUMBERS, listed
from vistune.scene.mentions import MentionFinder

_SAME = {"upper": "top", "lower": "bottom", "middle": "center", "centre": "center", "central": "center"}
_SAME |= {"topmost": "top", "bottommost": "bottom", "leftmost": "left", "rightmost": "right"}
_REGIONS = ("top", "bottom", "left", "right", "center")
_WHOLE = "image|picture|photo|photograph|scene|frame"
# "to the left of the dog" tells no region of the image, "to the left of the image" does
_RELATION = re.compile(rf"\b(?:left|right|top|bottom) (?:side )?of (?!(?:(?:the|this) )?(?:{_WHOLE})\b)")


def read_answer(kind: str, text: str, question: str, finder: MentionFinder) -> tuple[str | None, str]:
    """What `text` answers to a question of type `kind`, in the form of a reference answer, and how it was read.

    Case, punctuation and articles do not matter and the answer may be a sentence. The first is None when the text
    gives no answer of that kind (an empty text never does); the second then says why.
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
            found = " ".join(sides) or "center"
            return found, f"says {found}"
    return None, "names no region"


def _object(text: str, question: str, finder: MentionFinder) -> tuple[str | None, str]:
    asked = finder.find(question)
    for category in finder.find(text):
        if category not in asked:
            return category, f"names {category}"
    return None, "names no known object" if not asked else "names no object besides the question's"
