"""What a text says is in the image: its clauses, without questions, denials, possibilities and comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from vistune.generate.filters.objects import Mention, Names
from vistune.generate.filters.sample import Text
from vistune.generate.filters.word_lists import word_list

_SENTENCE = re.compile(r"[^.!?;\n]+[.!?;]?")
_CONTRAST = re.compile(r"\b(?:but|while|whereas|although|though|however)\b")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,:()\"\u2013\u2014]")


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence as words, punctuation among them, with the objects it names."""

    words: list[str]
    mentions: list[Mention]

    def before(self, at: int) -> str:
        """The word before that place; empty at the beginning."""
        return self.words[at - 1] if 0 < at <= len(self.words) else ""

    def after(self, end: int) -> str:
        """The word at that place; empty at the end."""
        return self.words[end] if end < len(self.words) else ""


@lru_cache(maxsize=64)  # several filters look at the same texts, one after the other
def clauses(text: Text, names: Names) -> tuple[Clause, ...]:
    """The clauses that state something and name an object."""
    return tuple(_clauses(text, names))


def _clauses(text: Text, names: Names) -> Iterator[Clause]:
    doubt = _doubt()
    for sentence in _SENTENCE.findall(text.unquoted):
        if sentence.endswith("?"):
            continue
        for part in _CONTRAST.split(sentence):
            words = _TOKEN.findall(part)
            if doubt.isdisjoint(words) and (mentions := names.find(words)):
                yield Clause(words, mentions)


@cache
def _doubt() -> frozenset[str]:
    return word_list("negations") | word_list("unreal") | word_list("hedges")
