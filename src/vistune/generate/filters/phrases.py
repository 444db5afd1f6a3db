"""Phrases that give a text away, from a file of patterns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from vistune.generate.filters.sample import Sample, Text
from vistune.resources import load_yaml


class _Phrase(NamedTuple):
    """A pattern, and the words of which a text needs one, and one of the others where there are any."""

    pattern: re.Pattern[str]
    words: frozenset[str]
    others: frozenset[str]

    def possible(self, known: frozenset[str]) -> bool:
        """Whether a text of these words can have it."""
        return not self.words.isdisjoint(known) and not (self.others and self.others.isdisjoint(known))


class Phrases:
    """Finds any of some patterns; each is tried only where the words that it cannot match without occur."""

    def __init__(self, entries: list[Mapping[str, str]], parts: Mapping[str, str]) -> None:
        self._phrases = []
        for entry in entries:
            source = entry["pattern"]
            for name, part in parts.items():
                source = source.replace(f"{{{name}}}", part)
            words, others = (_with_possessives(entry.get(key, "").split()) for key in ("words", "with"))
            self._phrases.append(_Phrase(re.compile(source, re.VERBOSE), words, others))
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, phrase in enumerate(self._phrases):
            for word in phrase.words:
                self._by_word[word].append(number)
        self._words = frozenset(self._by_word)

    def having(self, sample: Sample, texts: Sequence[Text]) -> Iterator[Text]:
        """Those of the sample's texts that, without what they quote, have a phrase; once for each pattern of it."""
        for number in {number for word in self._words & sample.known for number in self._by_word[word]}:
            phrase = self._phrases[number]
            if phrase.possible(sample.known):
                yield from (one for one in texts if phrase.possible(one.known) and phrase.pattern.search(one.unquoted))


def _with_possessives(words: list[str]) -> frozenset[str]:
    """The words, and what they are among a text's words with an apostrophe: a pattern matches before it."""
    return frozenset(form for word in words for form in (word, f"{word}'s"))


@cache
def phrases(name: str) -> Phrases:
    """The phrases of that name in `phrases.yaml`."""
    loaded: Any = load_yaml("vistune.generate.filters", "phrases.yaml")
    return Phrases(loaded[name], loaded["parts"])
