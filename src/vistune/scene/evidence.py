"""Which objects the annotations of an image support: COCO's 80 categories and the data's own, as concepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from vistune.records import Box
from vistune.resources import load_yaml
from vistune.scene.english import plain, words_of
from vistune.scene.mentions import MentionFinder, concept, concept_finder, is_descriptive


def absent(categories: tuple[str, ...], boxes: Iterable[Box], captions: Iterable[str]) -> list[str]:
    """The `categories` of the data that an image certainly lacks, if all objects of these have boxes.

    No box and no caption names or implies one, in any spelling: a boxed van may be a car, and a rider is a person. Nor
    does a longer word of a caption contain the name: a firetruck is a truck.
    """
    texts, finder = [caption.lower() for caption in captions], concept_finder(categories)
    boxed = {box.category for box in boxes}
    present = {concept(category) for category in boxed}
    present.update(*(_named(plain(category), concept_finder()) for category in boxed))
    present.update(*(_named(text, finder) for text in texts))
    together = " ".join(texts)
    return [
        category
        for category in categories
        if is_descriptive(category) and concept(category) not in present and plain(category) not in together
    ]


def _named(text: str, finder: MentionFinder) -> set[str]:
    """The categories that a text names, and those that its other words imply: a wine glass implies no cup."""
    words = words_of(text)
    mentions = finder.mentions(words)
    inside = {at for mention in mentions for at in range(mention.start, mention.end)}
    rest = (_evidence().get(word, frozenset()) for at, word in enumerate(words) if at not in inside)
    return {mention.category for mention in mentions}.union(*rest)


def supported(boxed: Iterable[str], captions: Iterable[str], finder: MentionFinder) -> set[str]:
    """The concepts that boxes of the categories `boxed` and captions name or imply."""
    names = [(plain(category), concept_finder()) for category in boxed]
    found = {concept(category) for category in boxed}
    texts = [*names, *((caption.lower(), finder) for caption in captions)]
    return found.union(*(supported_by(words_of(text), of_text) for text, of_text in texts))


def supported_by(words: Sequence[str], finder: MentionFinder) -> set[str]:
    """The categories that a text of these words supports: by name, by a kind or a part, by a more general word."""
    evidence = _evidence()
    found = {mention.category for mention in finder.mentions(words)}
    return found.union(*(evidence[word] for word in words if word in evidence))


@cache
def similar(category: str) -> frozenset[str]:
    """The categories that annotators mistake for this one, or that are parts of each other."""
    groups: Iterable[list[str]] = _knowledge()["near"]
    return frozenset(other for group in groups if category in group for other in group) - {category}


def implied(category: str) -> Sequence[str]:
    """The categories that come with this one: cars with a train."""
    return tuple(_knowledge()["implied"].get(category, ()))


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
    return dict(load_yaml("vistune.scene", "evidence.yaml"))
