"""One name for each thing in an image, however the data spells it, so that counts and places are those of all boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vistune.records import Box
from vistune.scene.english import plain, plural, singular, words_of
from vistune.scene.evidence import supported_by
from vistune.scene.mentions import concept, concept_finder, is_synonym, one_of

_DISJOINT = frozenset(("man", "woman", "boy", "girl"))
"""Kinds of one category of which no object is two."""
_CLEARLY, _SAME_REGION = 0.05, 0.5
_EXTREMES: Mapping[str, Callable[[Box], float]] = {
    "leftmost": lambda box: box.center[0],
    "rightmost": lambda box: -box.center[0],
    "topmost": lambda box: box.center[1],
    "lowest": lambda box: -box.center[1],
    "largest": lambda box: -box.area,
}


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


def referring(boxes: Sequence[Box]) -> list[tuple[Box, str]]:
    """The labelled boxes that words distinguish, each with these: the dog, the leftmost dog, the largest cat.

    Boxes that mostly overlap with another are left out: what fills such a region is open.
    """
    found = []
    for box in boxes:
        same = [other for other in boxes if other.category == box.category]
        if any(_overlap(box, other) > _SAME_REGION for other in boxes if other is not box):
            continue
        if len(same) == 1:
            found.append((box, f"the {singular(box.category)}"))
        elif word := next((word for word, value in _EXTREMES.items() if _is_extreme(box, same, value)), None):
            found.append((box, f"the {word} {singular(box.category)}"))
    return found


def _is_extreme(box: Box, same: Sequence[Box], value: Callable[[Box], float]) -> bool:
    """Whether the box's value is clearly smaller than that of all others."""
    return all(value(box) + _CLEARLY < value(other) for other in same if other is not box)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    both = max(width, 0.0) * max(height, 0.0)
    return both / (one.area + other.area - both)
