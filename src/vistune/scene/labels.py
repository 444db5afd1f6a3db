"""One name for each thing in an image, however the data spells it, so that counts and places are those of all boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vistune.records import Box
from vistune.scene.english import plain, plural, words_of
from vistune.scene.evidence import supported_by
from vistune.scene.mentions import concept, concept_finder, is_synonym, one_of

_DISJOINT = frozenset(("man", "woman", "boy", "girl"))
"""Kinds of one category of which no object is two."""


def labelled(boxes: Sequence[Box]) -> list[Box]:
    """The boxes with the first of the names that their image has for each thing, in order.

    `dog`, `Dogs` and `DOG` are one thing, and so are couch and sofa; a man beside a person is a person, too. A crowd
    is a thing of its own, `crowd of people`, and the people who have their own boxes are left out beside it: their
    number says nothing.
    """
    things = _things({box.category for box in boxes})
    names: dict[str, str] = {}
    for box in sorted(boxes, key=lambda box: _thing(box.category) != things[box.category]):  # a person before a man
        names.setdefault(things[box.category], box.category)
    crowded = {things[box.category] for box in boxes if box.crowd}
    seen = [box for box in boxes if box.crowd or things[box.category] not in crowded]
    return [_named(box, names[things[box.category]]) for box in seen]


def _named(box: Box, name: str) -> Box:
    if not box.crowd:
        return replace(box, category=name)
    return replace(box, category=f"{'crowd' if concept(name) == 'person' else 'group'} of {plural(name)}")


def _things(categories: set[str]) -> dict[str, str]:
    """Each category with the thing that it names: kinds of one COCO category that may be the same count as that."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for category in categories:
        kinds[concept(category)].add(_thing(category))
    return {
        one: concept(one) if len(kinds[concept(one)]) > 1 and not kinds[concept(one)] <= _DISJOINT else _thing(one)
        for one in categories
    }


def _thing(category: str) -> str:
    return concept(category) if is_synonym(category) else one_of(category)


def may_be(one: str, other: str) -> bool:
    """Whether an object of category `one` may be of category `other`, too: a van may be a car, a car is a vehicle."""
    if is_synonym(one) and is_synonym(other):
        return False  # COCO's categories exclude each other
    pairs = ((one, other), (other, one))
    return any(concept(b) in supported_by(words_of(plain(a)), concept_finder()) for a, b in pairs)
