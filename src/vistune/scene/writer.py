"""True sentences about captions and boxes for the symbolic teacher: dialogues, descriptions, reasoning."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vistune.records import Box
from vistune.scene.english import counted, listed, number, plural, singular, with_article
from vistune.scene.evidence import absent
from vistune.scene.facts import RELATIONS, counts, holds, larger, neighbors, position, unique
from vistune.scene.labels import labelled, may_be, referring
from vistune.scene.layout import Layout
from vistune.scene.mentions import MentionFinder
from vistune.scene.wording import common_objects, fill, phrases, place, spoken

Pair = tuple[str, str]
"""A question and its answer."""
_FEW = 10
"""Data with fewer categories is described by sizes and distances, too; its images are too much alike without."""


@dataclass(frozen=True)
class SceneWriter:
    """Writes about one image; its random choices come from `rng`."""

    captions: Sequence[str]
    annotated: Sequence[Box]
    rng: random.Random
    vocabulary: tuple[str, ...] = ()
    """The categories that the data annotates. Only these are denied; empty: unknown, so nothing is denied."""
    about: str = ""
    """What the data's images are of: "blood smears under a microscope"; empty: unknown."""

    @cached_property
    def boxes(self) -> Sequence[Box]:
        """The image's boxes, with one name for each thing."""
        return labelled(self.annotated)

    # --- questions with one right answer: each gives a pair, or None where the boxes leave it open

    def existence_yes(self) -> Pair | None:
        """Is there an object of a boxed category? Yes."""
        name = self._any_category()
        n = counts(self.boxes)[name]
        return self._pair("existence", "affirmed", thing=name, things=plural(name), counted=counted(name, n))

    def existence_no(self) -> Pair | None:
        """Is there an object of a category of the data that is in no box and no caption? No."""
        missing = absent(self.vocabulary, self.annotated, self.captions)
        if not missing:
            return None
        name = self.rng.choice(sorted(missing, key=_rank))
        return self._pair("existence", "denied", thing=name, things=plural(name))

    def count(self) -> Pair | None:
        """How many objects of a category are there? Open for a crowd, and where another box may show one, too."""
        name = self._any_category()
        if any(box.crowd if box.category == name else may_be(name, box.category) for box in self.boxes):
            return None
        n = counts(self.boxes)[name]
        words = {"thing": name, "things": plural(name)}
        question = fill(self.rng.choice(phrases()["count"]["questions"]), **words)
        words |= {"n": number(n), "is_are": "is" if n == 1 else "are"}
        words["things"] = singular(name) if n == 1 else plural(name)
        return question, fill(self.rng.choice(phrases()["count"]["answers"]), **words)

    def position(self) -> Pair | None:
        """Where is the only object of its category?"""
        found = [(box, where) for box in unique(self.boxes) if (where := position(box))]
        if not found:
            return None
        box, where = self.rng.choice(found)
        return self._pair("position", "answers", thing=box.category, place=place(where))

    def relation(self) -> Pair | None:
        """Is one object left of, right of, above or below another? In half of the cases yes."""
        single = unique(self.boxes)
        found = [(a, b, name) for a in single for b in single if a is not b for name in RELATIONS if holds(name, a, b)]
        if not found:
            return None
        a, b, true = self.rng.choice(found)
        yes = self.rng.random() < 0.5
        claimed = true if yes else RELATIONS[true]
        words = {"thing": a.category, "other": b.category, "relation": spoken(claimed)}
        words["inverse"] = spoken(RELATIONS[claimed])
        return self._pair("relation", "affirmed" if yes else "denied", **words)

    def category(self) -> Pair | None:
        """What is in a region with exactly one object, all others being clearly elsewhere?"""
        where = [position(box) for box in self.boxes]
        found = [(box, here) for box, here in zip(self.boxes, where, strict=True) if here and where.count(here) == 1]
        if not found or None in where or self._crowded:
            return None
        box, here = self.rng.choice(found)
        return self._pair("category", "answers", thing=box.category, place=place(here))

    def neighbor(self) -> Pair | None:
        """What is on that side of an object where exactly one other object is?"""
        found = neighbors(self.boxes, unique(self.boxes))
        if not found or self._crowded:
            return None
        a, b, relation = self.rng.choice(found)
        return self._pair("neighbor", "answers", thing=a.category, other=b.category, relation=spoken(relation))

    def size(self) -> Pair | None:
        """Which of two objects is larger?"""
        single = unique(self.boxes)
        found = [(a, b) for a in single for b in single if a is not b and larger(a, b)]
        if not found:
            return None
        big, small = self.rng.choice(found)
        thing, other = self.rng.sample([big.category, small.category], 2)
        words = {"thing": thing, "other": other, "larger": big.category, "smaller": small.category}
        return self._pair("size", "answers", **words)

    def listing(self) -> Pair:
        """Which objects are in the image?"""
        return self._pair("list", "answers", listed=self._listing(), is_are=self._is_are())

    def domain(self) -> Pair | None:
        """What are the data's images of?"""
        return self._pair("about", "answers", about=self.about) if self.about else None

    # --- the three kinds

    def conversation(self, turns: int) -> list[Pair]:
        """Up to `turns` questions and answers, mostly about counts, places, relations and the objects in a place.

        No two questions are about the same fact, or the second answer could be copied from the first without the image.
        """
        ways: list[tuple[Callable[[], Pair | None], int]] = [
            (self.existence_yes, 2), (self.existence_no, 2), (self.count, 3), (self.position, 3), (self.relation, 3),
            (self.category, 3), (self.neighbor, 2), (self.size, 1), (self.listing, 1),
        ]  # fmt: skip
        pairs: dict[tuple[str, ...], Pair] = {}
        if self.about:
            ways.append((self.domain, 2))
        for way in self.rng.sample([way for way, _ in ways], k=20, counts=[weight for _, weight in ways]):
            if (pair := way()) and len(pairs) < turns:
                pairs.setdefault((way.__name__, *(self.named(pair) or pair)), pair)
        return list(pairs.values())

    def named(self, pair: Pair) -> tuple[str, ...]:
        """The categories that a question or its answer names, the boxed ones first."""
        mentioned = self._finder.find(" ".join(pair))
        return tuple(name for name in dict.fromkeys((*counts(self.boxes), *self.vocabulary)) if name in mentioned)

    @cached_property
    def _finder(self) -> MentionFinder:
        return MentionFinder({*counts(self.boxes), *self.vocabulary})

    def caption(self) -> str:
        """A brief description: the objects, and where the only one is: `Two dogs and a cat.`, `A kite at the top.`"""
        where = position(self.boxes[0]) if len(self.boxes) == 1 else None
        listing = self._listing() + (f" {place(where)}" if where else "")
        return f"{listing[0].upper()}{listing[1:]}."

    def description(self) -> str:
        """A detailed description: the objects, the background if a caption names it, and where each object is."""
        ground = re.search(r"\b((?:\w+ and )?\w+) background", " ".join(self.captions), re.IGNORECASE)
        setting = f" on {with_article(ground[1].lower())} background" if ground else ""
        if self._few:
            words = {"listed": self._listing(), "setting": setting, "is_are": self._is_are()}
            intro = fill(self.rng.choice(phrases()["layout"]["intro"]), **words)
            return " ".join([*self._domain(), intro, *Layout(self.boxes, self.rng).sentences()])
        places = (self._places(name, n) for name, n in counts(self._in_reading_order()).items())
        return " ".join([*self._domain(), f"The image shows {self._listing()}{setting}.", *filter(None, places)])

    def _places(self, name: str, n: int) -> str:
        """Where the objects of a category are; empty where that is open for one of them."""
        found = Counter(position(box) for box in self._in_reading_order() if box.category == name)
        where = {place(here): count for here, count in found.items() if here}
        if None in found:
            return ""
        if n == 1:
            return f"The {singular(name)} is {next(iter(where))}."
        if len(where) in (1, n):
            return f"The {plural(name)} are {listed([*where])}."
        parts = [f"{number(count)} {'is' if count == 1 else 'are'} {here}" for here, count in where.items()]
        return f"Of the {plural(name)}, {listed(parts)}."

    def reasoning(self) -> Pair | None:
        """One question that takes several steps, and the steps to its answer; None where the boxes leave it open."""
        found = counts(self._in_reading_order())
        ways = [] if self._crowded else [self._total]
        ranked = found.most_common(2)
        if len(ranked) == 2 and ranked[0][1] > ranked[1][1] and not self._crowded:
            ways.append(self._most)
        row = sorted(self.boxes, key=lambda box: box.center[0])
        if len({round(8 * box.center[0]) for box in row}) == len(row) and row[0].category != row[-1].category:
            ways.append(self._leftmost)
        if len({round(8 * box.center[1]) for box in row}) == len(row) and len(found) > 1:
            ways.append(self._order)
        if self._few or not ways:
            ways = (ways if len(found) > 1 else []) + Layout(self.boxes, self.rng).reasoning() or ways
        if not ways:
            return None
        question, answer = self.rng.choice(ways)()
        return question, " ".join([*self._domain(), answer])

    def _total(self) -> Pair:
        total = len(self.boxes)
        answer = f"I count each kind of object: {listed(self._tally())}."
        things = "There is one object" if total == 1 else f"There are {number(total)} objects"
        return self._reason("total"), f"{answer} {things} altogether."

    def _most(self) -> Pair:
        largest = counts(self._in_reading_order()).most_common(1)[0][0]
        return self._reason("most"), f"I count {listed(self._tally())}. So {plural(largest)} appear most often."

    def _leftmost(self) -> Pair:
        row = [box.category for box in sorted(self.boxes, key=lambda box: box.center[0])]
        answer = f"From left to right I see {listed([with_article(name) for name in row])}."
        ends = (row[0], row[-1])
        first, last = (f"the {singular(one)}" if row.count(one) == 1 else with_article(one) for one in ends)
        return self._reason("leftmost"), f"{answer} So {first} comes first and {last} comes last."

    def _order(self) -> Pair:
        column = [box.category for box in sorted(self.boxes, key=lambda box: box.center[1])]
        answer = f"The first that I pass is {with_article(column[0])}. Below it, in this order, I pass "
        return self._reason("order"), answer + listed([with_article(name) for name in column[1:]]) + "."

    def grounding(self, turns: int) -> list[Pair]:
        """Up to `turns` pairs of an object, in words that fit no other, and its box: asked for one or the other."""
        pairs = []
        for box, expression in self.rng.sample(found := referring(self.boxes), min(turns, len(found))):
            corners = f"[{box.x1:.2f}, {box.y1:.2f}, {box.x2:.2f}, {box.y2:.2f}]"
            if self.rng.random() < 0.5:
                pairs.append((self._ask("questions", expression=expression), corners))
            else:
                answer = f"{expression[0].upper()}{expression[1:]}."
                pairs.append((self._ask("regions", box=corners), answer))
        return pairs

    def _ask(self, form: str, **words: str) -> str:
        return fill(self.rng.choice(phrases()["grounding"][form]), **words)

    # --- helpers

    def _reason(self, way: str) -> str:
        return str(self.rng.choice(phrases()["reasoning"][way]))

    def _pair(self, kind: str, outcome: str, **words: str) -> Pair:
        question = fill(self.rng.choice(phrases()[kind]["questions"]), **words)
        return question, fill(self.rng.choice(phrases()[kind][outcome]), **words)

    @property
    def _few(self) -> bool:
        return 0 < len(self.vocabulary) < _FEW

    @cached_property
    def _crowded(self) -> bool:
        return any(box.crowd for box in self.boxes)

    def _domain(self) -> list[str]:
        return [fill(self.rng.choice(phrases()["about"]["answers"][1:]), about=self.about)] if self.about else []

    def _any_category(self) -> str:
        return self.rng.choice(list(counts(self.boxes)))

    def _in_reading_order(self) -> Sequence[Box]:
        return sorted(self.boxes, key=lambda box: (int(8 * box.center[1]), box.center[0]))

    def _tally(self) -> list[str]:
        found = counts(self._in_reading_order())
        return [f"{number(n)} {singular(name) if n == 1 else plural(name)}" for name, n in found.items()]

    def _listing(self) -> str:
        return listed([counted(name, n) for name, n in counts(self._in_reading_order()).items()])

    def _is_are(self) -> str:
        """The verb before a listing, by its first item."""
        return "is" if next(iter(counts(self._in_reading_order()).values())) == 1 else "are"


def _rank(name: str) -> tuple[int, str]:
    """COCO's categories in their own order, any others after them by name."""
    common = common_objects()
    return (common.index(name) if name in common else len(common)), name
