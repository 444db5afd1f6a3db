"""What questions are about: a verb and its noun, as Self-Instruct (Wang et al. 2023, figure 2) shows its diversity.

Self-Instruct parses each instruction; here a light rule does, for English: the first verb that the list `verbs.txt`
has, and the first noun after it, or else the last one before it; with no such verb, `be` and the first noun. What no
list knows as another kind of word counts as a noun. A parser would differ in some of them; what it is for, to see
that questions repeat one another, shows all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources

Action = tuple[str, str]
"""A verb in its base form and a noun in the singular."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_LEAST_ADVERB = 5  # letters, with those of -ly


class Actions:
    """Finds the action of a question. The word lists are read once, by the constructor."""

    def __init__(self) -> None:
        self._verbs = dict(_forms(_lines("verbs.txt")))
        self._others = frozenset(" ".join(_lines("function_words.txt")).split())

    def find(self, question: str) -> Action | None:
        """The action of the first sentence with one; None if there is no noun."""
        words = _WORD.findall(question.lower().replace("\u2019", "'"))
        place, verb = next(((i, self._verbs[word]) for i, word in enumerate(words) if word in self._verbs), (-1, "be"))
        after = (word for word in words[place + 1 :] if self._is_noun(word))
        before = (word for word in reversed(words[: max(place, 0)]) if self._is_noun(word))
        noun = next(after, None) or next(before, None)
        return (verb, _singular(noun)) if noun else None

    def _is_noun(self, word: str) -> bool:
        adverb = word.endswith("ly") and len(word) >= _LEAST_ADVERB
        return not adverb and word not in self._others and word not in self._verbs


def _lines(name: str) -> list[str]:
    text = resources.files("vistune.generate.quality").joinpath(name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _forms(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each form of each verb with its base. After `~` the base and its -s are nouns in most questions and left out."""
    for line in lines:
        base, *irregular = line.removeprefix("~").split()
        stem = base[:-1] if base.endswith("e") else base
        regular = {f"{stem}ing", f"{stem}ed", f"{base}ing", f"{stem}{stem[-1]}ing", f"{stem}{stem[-1]}ed"}
        if base.endswith("y"):
            regular |= {f"{base[:-1]}ied"}
        if not line.startswith("~"):
            regular |= {base, f"{base}s", f"{base}es"} | ({f"{base[:-1]}ies"} if base.endswith("y") else set())
        yield from ((form, base) for form in sorted({*regular, *irregular}))


def _singular(noun: str) -> str:
    for plural, singular in (("people", "person"), ("men", "man"), ("children", "child"), ("ies", "y")):
        if noun.endswith(plural):
            return noun.removesuffix(plural) + singular
    if noun.endswith(("ches", "shes", "sses", "xes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
