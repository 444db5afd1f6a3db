"""Phrases that give a text away, from a file of patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from vistune.generate.filters.sample import Text
from vistune.own_files import load_yaml


class Phrases:
    """Finds any of some patterns; each is tried only where the words that it cannot match without occur."""

    def __init__(self, entries: list[Mapping[str, str]], parts: Mapping[str, str]) -> None:
        self._patterns: dict[str, list[tuple[re.Pattern[str], frozenset[str]]]] = {}
        for entry in entries:
            source = entry["pattern"]
            for name, part in parts.items():
                source = source.replace(f"{{{name}}}", part)
            pattern = re.compile(source, re.VERBOSE)
            for word in entry["words"].split():
                self._patterns.setdefault(word, []).append((pattern, frozenset(entry.get("with", "").split())))
        self._words = frozenset(self._patterns)

    def found(self, text: Text) -> bool:
        """Whether the text, without what it quotes, has one of the phrases."""
        if self._words.isdisjoint(text.known):
            return False
        tried: set[re.Pattern[str]] = set()
        for word in self._words & text.known:
            for pattern, others in self._patterns[word]:
                if pattern in tried or (others and others.isdisjoint(text.known)):
                    continue
                tried.add(pattern)
                if pattern.search(text.unquoted):
                    return True
        return False


@cache
def phrases(name: str) -> Phrases:
    """The phrases of that name in `phrases.yaml`."""
    loaded: Any = load_yaml("vistune.generate.filters", "phrases.yaml")
    return Phrases(loaded[name], loaded["parts"])
