"""Descriptions and reasoning by sizes and distances, where an image's categories say little about it.

Of two hundred images of one raccoon each, "a raccoon in the center" describes most. Shares of the image's width and
height, free space and edges tell them apart. All are named to about a twelfth, the precision of an estimate by eye.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from vistune.records import Box
from vistune.scene.english import listed, number, plural
from vistune.scene.facts import counts, position
from vistune.scene.wording import fill, phrases, place

_SHARES = (
    (0.1, "a tenth"), (0.2, "a fifth"), (0.25, "a quarter"), (0.33, "a third"), (0.4, "two fifths"), (0.5, "half"),
    (0.6, "three fifths"), (0.67, "two thirds"), (0.75, "three quarters"), (0.8, "four fifths"), (0.9, "nine tenths"),
)  # fmt: skip
_EDGE, _NEAR_EDGE = 0.005, 0.04
_MIDDLE = 0.03
_LARGER = 1.3
_MOST, _MOST_EACH = 6, 2
"""Maximum number of sentences about a category where there are one or two, and where there are more."""


def share(value: float) -> str:
    """A share of the image's side in words: 0.35 -> `about a third`."""
    if value < 0.07:
        return "less than a tenth"
    if value > 0.95:
        return "nearly all"
    return f"about {min(_SHARES, key=lambda known: abs(known[0] - value))[1]}"


@dataclass(frozen=True)
class Layout:
    """The sizes and distances of an image's boxes in words; its random choices come from `rng`."""

    boxes: Sequence[Box]
    rng: random.Random

    def sentences(self) -> Iterator[str]:
        """What there is to say about a single object, or about the objects of each category together."""
        found = counts(self.boxes)
        for name, n in found.items():
            same = [box for box in self.boxes if box.category == name]
            about = self._shuffled(self._about_one(same[0]) if n == 1 else self._about_several(same))
            yield from about[: _MOST if len(found) <= 2 else _MOST_EACH]

    def reasoning(self) -> list[Callable[[], tuple[str, str]]]:
        """Ways to a question about sizes or distances with the steps to its answer."""
        ways: list[Callable[[], tuple[str, str]]] = []
        for name, n in counts(self.boxes).items():
            same = [box for box in self.boxes if box.category == name]
            if n == 1:
                ways += self._about_the_only(same[0])
            else:
                ways += [partial(self._compare, same)] if _sizes_differ(same) is not None else []
                ways += [partial(self._balance, same)] if _halves(same, 0) else []
        return ways

    # --- sentences of a description, each list beginning with the one that names the object

    def _about_one(self, box: Box) -> list[str]:
        words = {"thing": box.category, **_extent(box)}
        found = [self._say("extent", **words)]
        if where := position(box):
            found.insert(0, self._say("place", place=place(where), **words))
        if min(box.x1, 1 - box.x2) > _NEAR_EDGE:
            found.append(self._say("gaps", left=share(box.x1), right=share(1 - box.x2)))
        if min(box.y1, 1 - box.y2) > _NEAR_EDGE:
            found.append(self._say("margins", above=share(box.y1), below=share(1 - box.y2)))
        if edges := _edges(box):
            found.append(self._say("edges", edges=listed(edges)))
        elif _clear(box):
            found.append(self._say("inside", **words))
        return found

    def _about_several(self, same: Sequence[Box]) -> list[str]:
        by_size = sorted(same, key=lambda box: box.area)
        found = [f"There are {number(len(same))} {plural(same[0].category)}."] if len(counts(self.boxes)) > 1 else []
        found.append(self._say("spread", **_extent(_around(same))))
        for name, axis in (("halves", 0), ("rows", 1)):
            if sides := _halves(same, axis):
                found.append(self._say(name, **_two(*sides)))
        if by_size[-1].area > _LARGER * by_size[-2].area:
            found.append(self._say("largest", **_extent(by_size[-1])))
        if by_size[1].area > _LARGER * by_size[0].area and len(same) > 2:
            found.append(self._say("smallest", **_extent(by_size[0])))
        return found

    def _shuffled(self, sentences: list[str]) -> list[str]:
        """The first, then the others in any order: "it" and "them" refer to what the first one names."""
        return sentences[:1] + self.rng.sample(sentences[1:], len(sentences) - 1)

    # --- reasoning

    def _about_the_only(self, box: Box) -> list[Callable[[], tuple[str, str]]]:
        ways: list[Callable[[], tuple[str, str]]] = [lambda: self._cover(box)]
        if abs(box.x1 - (1 - box.x2)) > 0.1:
            ways.append(lambda: self._room(box))
        if _edges(box) or _clear(box):
            ways.append(lambda: self._whole(box))
        return ways

    def _cover(self, box: Box) -> tuple[str, str]:
        percent = str(max(1, round(100 * box.area)))
        return self._ask("cover", box.category), f"{self._seen(box)} {self._say('product', percent=percent)}"

    def _room(self, box: Box) -> tuple[str, str]:
        left, right = box.x1, 1 - box.x2
        gaps = self._say("free", thing=box.category, left=share(left), right=share(right))
        side = "left" if left > right else "right"
        answer = f"{self._seen(box)} {gaps} {self._say('roomier', side=side)}"
        return self._ask("room", box.category), answer

    def _seen(self, box: Box) -> str:
        """The first step: where the object is, if that is clear, and how far it extends."""
        words = {"thing": box.category, **_extent(box)}
        where = position(box)
        steps = [self._say("place", place=place(where), **words)] if where else []
        return " ".join([*steps, self._say("extent", **words)])

    def _whole(self, box: Box) -> tuple[str, str]:
        where = self._seen(box)
        if edges := _edges(box):
            return self._ask("whole", box.category), f"{where} {self._say('cut', edges=listed(edges))}"
        return self._ask("whole", box.category), f"{where} {self._say('uncut', thing=box.category)}"

    def _compare(self, same: Sequence[Box]) -> tuple[str, str]:
        second, first = sorted(same, key=lambda box: box.area)[-2:]
        words = {"width": share(first.x2 - first.x1), "height": share(first.y2 - first.y1)}
        words |= {"other_width": share(second.x2 - second.x1), "other_height": share(second.y2 - second.y1)}
        end = "larger" if _sizes_differ(same) else "alike"
        return self._ask("compare", first.category), f"{self._say('pair', **words)} {self._say(end)}"

    def _balance(self, same: Sequence[Box]) -> tuple[str, str]:
        left, right = _halves(same, 0) or (0, 0)
        end = "even" if left == right else "uneven"
        side = "left" if left > right else "right"
        around = self._say("spread", **_extent(_around(same)))
        answer = f"{self._say('halves', **_two(left, right))} {self._say(end, side=side)} {around}"
        return self._ask("balance", same[0].category), answer

    # --- wording

    def _say(self, name: str, **words: str) -> str:
        return fill(self.rng.choice(phrases()["layout"][name]), **words)

    def _ask(self, name: str, category: str) -> str:
        return fill(self.rng.choice(phrases()["reasoning"][name]), thing=category, things=plural(category))


def _two(first: int, second: int) -> dict[str, str]:
    return {"first": number(first), "second": number(second), "first_is_are": "is" if first == 1 else "are"}


def _around(boxes: Sequence[Box]) -> Box:
    left, top = min(box.x1 for box in boxes), min(box.y1 for box in boxes)
    return Box("", left, top, max(box.x2 for box in boxes), max(box.y2 for box in boxes))


def _extent(box: Box) -> dict[str, str]:
    return {"width": share(box.x2 - box.x1), "height": share(box.y2 - box.y1)}


def _edges(box: Box) -> list[str]:
    gaps = {"left": box.x1, "right": 1 - box.x2, "top": box.y1, "bottom": 1 - box.y2}
    return [f"the {side} edge" for side, gap in gaps.items() if gap < _EDGE]


def _clear(box: Box) -> bool:
    return min(box.x1, 1 - box.x2, box.y1, 1 - box.y2) > _NEAR_EDGE / 2


def _halves(boxes: Sequence[Box], axis: int) -> tuple[int, int] | None:
    """How many objects are in the left and the right half (`axis` 0), or in the upper and the lower one.

    None if an object is in the middle, or if all are in one half.
    """
    centers = [box.center[axis] for box in boxes]
    before = sum(center < 0.5 for center in centers)
    clear = all(abs(center - 0.5) > _MIDDLE for center in centers)
    return (before, len(boxes) - before) if clear and 0 < before < len(boxes) else None


def _sizes_differ(boxes: Sequence[Box]) -> bool | None:
    """Whether the largest object is clearly larger than the next; None if that is open."""
    second, first = sorted(box.area for box in boxes)[-2:]
    return True if first > _LARGER * second else False if first < 1.1 * second else None
