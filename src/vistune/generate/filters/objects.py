"""The objects that texts name, and what annotations bear out: COCO's 80 categories and the data's own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, NamedTuple

from vistune.generate.filters.sample import Sample, Text, caption_text
from vistune.resources import load_yaml
from vistune.scene.english import plural
from vistune.scene.nouns import plain, synonyms

_A_WORD = re.compile("[a-z]{3}")


class Mention(NamedTuple):
    """A category's name in a list of words: `words[start:end]`; `many` for a plural, None where it has one form."""

    start: int
    end: int
    category: str
    many: bool | None


class Names:
    """Finds the names of objects; the longest counts: a "hot dog" is no dog, and a "dog park" none at all."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        knowledge = _knowledge()
        forms: dict[str, tuple[str, bool | None]] = {}
        for name in knowledge["others"]:
            forms |= _both_forms(name, "")
        for category, words in synonyms().items():
            for name in map(plain, (category, *words)):
                if name and (name not in knowledge["unsure"] or name == category):
                    forms |= _both_forms(name, category)
        own = {plain(category): category for category in vocabulary}
        for name in own.keys() - forms.keys() - {*knowledge["nameless"]}:
            if _A_WORD.search(name):
                forms |= _both_forms(name, own[name])
        self._by_first: dict[str, list[tuple[list[str], str, bool | None]]] = defaultdict(list)
        for form in sorted(forms, key=len, reverse=True):
            parts = form.split()
            self._by_first[parts[0]].append((parts, *forms[form]))
        self._categories = {first: {name[1] for name in names} for first, names in self._by_first.items()}
        self._firsts = frozenset(self._categories)

    def possible(self, words: frozenset[str]) -> set[str]:
        """The categories that a text of these words may name."""
        return set(chain.from_iterable(self._categories[word] for word in self._firsts & words))

    def find(self, words: Sequence[str]) -> list[Mention]:
        """Every mention of a category, in order."""
        found, at = [], 0
        while at < len(words):
            mention = self._at(words, at) if words[at] in self._by_first else None
            if mention and mention.category:
                found.append(mention)
            at = mention.end if mention else at + 1
        return found

    def _at(self, words: Sequence[str], at: int) -> Mention | None:
        for parts, category, many in self._by_first[words[at]]:
            end = at + len(parts)
            if words[at:end] == parts:
                return Mention(at, end, category, many)
        return None


@lru_cache(maxsize=4)
def names(vocabulary: tuple[str, ...] = ()) -> Names:
    """The names of COCO's categories and of these."""
    return Names(vocabulary)


def supported(sample: Sample) -> frozenset[str]:
    """The categories that the sample's boxes or captions bear out, generously."""
    return _supported(frozenset(box.category for box in sample.boxes), tuple(sample.captions), sample.vocabulary)


def near(category: str) -> frozenset[str]:
    """The categories that annotators take for this one, or that are parts of each other."""
    return _near().get(category, frozenset())


def borne_out_by(words: Sequence[str], vocabulary: tuple[str, ...] = ()) -> set[str]:
    """The categories that a caption of these words bears out: by name, by a kind or a part, by a more general word."""
    evidence = _evidence()
    found = {mention.category for mention in names(vocabulary).find(words)}
    return found.union(*(evidence[word] for word in evidence.keys() & set(words)))


@lru_cache(maxsize=64)  # the kinds of an image come one after the other
def _supported(boxed: frozenset[str], captions: tuple[str, ...], vocabulary: tuple[str, ...]) -> frozenset[str]:
    said = (borne_out_by(caption_text(caption).words, vocabulary) for caption in captions)
    found = boxed.union(*said, *(_borne_out_by_name(category, vocabulary) for category in boxed))
    implied = (_knowledge()["implied"].get(category, ()) for category in found)
    return frozenset(found.union(*implied, *map(near, found)))


@lru_cache(maxsize=4096)
def _borne_out_by_name(category: str, vocabulary: tuple[str, ...]) -> frozenset[str]:
    return frozenset(borne_out_by(Text(plain(category)).words, vocabulary))


def _both_forms(name: str, category: str) -> dict[str, tuple[str, bool | None]]:
    several = plural(name)
    if several == name or category in ("skis", "scissors"):
        return {name: (category, None)}
    return {name: (category, False), several: (category, True)}


@cache
def _evidence() -> Mapping[str, frozenset[str]]:
    """Each word of a caption that bears out categories, with these."""
    found: dict[str, set[str]] = defaultdict(set)
    knowledge = _knowledge()
    for category, words in knowledge["evidence"].items():
        for word in words.split():
            found[word].add(category)
    for words, categories in knowledge["general"].items():
        for word in words.split():
            found[word].update(categories)
    return {word: frozenset(categories) for word, categories in found.items()}


@cache
def _near() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for group in _knowledge()["near"]:
        for category in group:
            found[category].update(other for other in group if other != category)
    return {category: frozenset(others) for category, others in found.items()}


@cache
def _knowledge() -> Mapping[str, Any]:
    return dict(load_yaml("vistune.generate.filters", "objects.yaml"))
