"""What boxes say about a scene: counts, positions, relations, sizes.

Each fact is None where the boxes leave it open (an object near a boundary, two objects level with each other). So
questions and judgements cover only what has one right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from vistune.records import Box

POSITIONS = tuple(
    " ".join(part for part in (row, column) if part) or "center"
    for row in ("top", "", "bottom")
    for column in ("left", "", "right")
)
"""The nine regions of an image, row by row; `top`, `left`, `right`, `bottom` are the middle ones."""
RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""Each relation and its inverse."""

_EDGES = (0.35, 0.65)  # a little outside the thirds: people call a wide middle "center"
_MARGIN = 0.03
_LEVEL = 0.16
_SIZE_RATIO = 1.6


def counts(boxes: Iterable[Box]) -> Counter[str]:
    """The number of boxes of each category, in the order of first appearance; a crowd counts as one."""
    return Counter(box.category for box in boxes)


def _third(value: float) -> int | None:
    if any(abs(value - edge) < _MARGIN for edge in _EDGES):
        return None
    return sum(value > edge for edge in _EDGES)


def position(box: Box) -> str | None:
    """The region (one of `POSITIONS`) of the box's centre; None when it lies on a boundary."""
    x, y = box.center
    column, row = _third(x), _third(y)
    return None if column is None or row is None else POSITIONS[3 * row + column]


def holds(relation: str, a: Box, b: Box) -> bool | None:
    """Whether `a` is `relation` (one of `RELATIONS`) `b`, by their centres; None when they are level."""
    axis = 0 if relation in ("left of", "right of") else 1
    gap = a.center[axis] - b.center[axis]
    if abs(gap) < _LEVEL:
        return None
    return (gap < 0) == (relation in ("left of", "above"))


def larger(a: Box, b: Box) -> bool:
    """Whether `a` covers clearly more of the image than `b`."""
    return a.area > _SIZE_RATIO * b.area


def neighbors(boxes: Iterable[Box], unique: Iterable[Box]) -> list[tuple[Box, Box, str]]:
    """Each (a, b, relation) that holds for `a` of `boxes` alone and `b` of `unique`, and clearly for no other box."""
    found = []
    for b in unique:
        for relation in RELATIONS:
            sides = [(a, holds(relation, a, b)) for a in boxes if a is not b]
            holding = [a for a, side in sides if side]
            if len(holding) == 1 and all(side is not None for _, side in sides):
                found.append((holding[0], b, relation))
    return found


def unique(boxes: Sequence[Box]) -> list[Box]:
    """The boxes that are the only one of their category, in order."""
    n = counts(boxes)
    return [box for box in boxes if n[box.category] == 1]


def only(boxes: Iterable[Box], category: str) -> Box | None:
    """The box of `category` if there is exactly one, and that of a single object; otherwise None."""
    found = [box for box in boxes if box.category == category]
    return found[0] if len(found) == 1 and not found[0].crowd else None
