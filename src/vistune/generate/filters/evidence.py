"""Which objects the annotations of an image support: COCO's 80 categories and the data's own, as concepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from vistune.generate.filters.sample import Sample
from vistune.resources import load_yaml
from vistune.scene.english import words_of
from vistune.scene.mentions import MentionFinder, concept_finder


def supported(sample: Sample) -> set[str]:
    """The categories that the sample's boxes or captions support, generously."""
    found = {box.category for box in sample.boxes}
    named = [supported_by(words_of(category), concept_finder()) for category in found]
    found.update(*named, *(supported_by(caption.words, sample.finder) for caption in sample.captions))
    implied = (_knowledge()["implied"].get(category, ()) for category in found)
    return found.union(*implied, *map(similar, found))


def supported_by(words: list[str], finder: MentionFinder) -> set[str]:
    """The categories that a caption of these words supports: by name, by a kind or a part, by a more general word."""
    evidence = _evidence()
    found = {mention.category for mention in finder.mentions(words)}
    return found.union(*(evidence[word] for word in words if word in evidence))


@cache
def similar(category: str) -> frozenset[str]:
    """The categories that annotators mistake for this one, or that are parts of each other."""
    groups: Iterable[list[str]] = _knowledge()["near"]
    return frozenset(other for group in groups if category in group for other in group) - {category}


@cache
def _evidence() -> Mapping[str, frozenset[str]]:
    """Each word of a caption that supports categories, with these."""
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
def _knowledge() -> Mapping[str, Any]:
    return dict(load_yaml("vistune.generate.filters", "evidence.yaml"))
