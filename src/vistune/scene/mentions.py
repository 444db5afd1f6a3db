"""Which objects a text mentions: the one finder of the filters, CHAIR, the coverage figure and the symbolic teacher."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from vistune.records import ImageRecord
from vistune.resources import load_yaml
from vistune.scene.english import plain, plural, singular, tokens_of

_A_WORD = re.compile("[a-z]{3}")
_Names = dict[str, tuple[str, bool | None]]  # each name: its category, and whether it is a plural


class Mention(NamedTuple):
    """A category's name in a list of words: `words[start:end]`; `plural` is None where both forms are the same."""

    start: int
    end: int
    category: str
    plural: bool | None


class MentionFinder:
    """Finds names of COCO's 80 categories and of `categories`, the data's own (`objects.yaml`, as in CHAIR).

    The longest name counts: a "hot dog" is no dog, even where the data has no hot dogs. What the data calls a COCO
    category stands for it: a couch is found as the data's "sofa", a man as its "Person". A category's own name is
    never read as another's synonym.
    """

    def __init__(self, categories: Iterable[str] = ()) -> None:
        self.categories = frozenset(categories)
        self._names = dict(_coco_names())
        if renamed := _renamed(self.categories):
            names = self._names.items()
            self._names |= {name: (renamed[known], many) for name, (known, many) in names if known in renamed}
        for category in sorted(self.categories):
            self._names |= _both_forms(plain(category), category)
        self._first_words = {name.partition(" ")[0] for name in self._names}
        self._longest = 1 + max(name.count(" ") for name in self._names)

    def mentions(self, words: Sequence[str]) -> list[Mention]:
        """Every mention in a list of words in lower case, in order."""
        found: list[Mention] = []
        next_free = 0
        for at, word in enumerate(words):
            if at >= next_free and word in self._first_words and (mention := self._longest_at(words, at)):
                next_free = mention.end
                found.append(mention)
        return [mention for mention in found if mention.category]

    def find(self, text: str) -> list[str]:
        """The data's category of every mention in a text, in order; an object named twice is there twice."""
        words = [word.removesuffix("'s") for word in tokens_of(text.lower())]
        return [mention.category for mention in self.mentions(words) if mention.category in self.categories]

    def _longest_at(self, words: Sequence[str], at: int) -> Mention | None:
        for end in range(min(at + self._longest, len(words)), at, -1):
            if name := self._names.get(" ".join(words[at:end])):
                return Mention(at, end, *name)
        return None


def vocabulary(records: Iterable[ImageRecord]) -> tuple[str, ...]:
    """The categories that the records' boxes name, sorted."""
    return tuple(sorted({box.category for record in records for box in record.boxes}))


def concept(category: str) -> str:
    """What a category is, however the data spells it: `sofa` is COCO's couch, `Man` its person, `T-Rex` t rex."""
    name = plain(category)
    return _coco_names().get(name, ("", None))[0] or _compounds().get(name.replace(" ", "")) or one_of(category)


def one_of(category: str) -> str:
    """The plain name of one of the objects that a category may name in the plural: of `Platelets` platelet."""
    name = plain(category)
    return plain(singular(category)) if plain(plural(category)) == name else name


def is_descriptive(category: str) -> bool:
    """Whether the name describes an object; `0`, `k9` and `object` do not."""
    name = concept(category)
    return name in _objects()["names"] or (bool(_A_WORD.search(name)) and name not in _objects()["nameless"])


@cache
def concept_finder(categories: tuple[str, ...] = ()) -> MentionFinder:
    """Finds COCO's categories and `categories`, as concepts; names that are not descriptive are left out."""
    own = {concept(category) for category in categories if is_descriptive(category)}
    return MentionFinder(sorted(own | set(_objects()["names"])))


def _renamed(categories: Iterable[str]) -> dict[str, str]:
    """COCO's categories that have one name in the data, and another one than in COCO, each with that name."""
    named: dict[str, list[str]] = defaultdict(list)
    for category in categories:
        if is_synonym(category):
            named[concept(category)].append(category)
    exact = {known: [one for one in own if plain(one) == known] or own for known, own in named.items()}
    return {known: own[0] for known, own in exact.items() if len(own) == 1 and own[0] != known}


def is_synonym(category: str) -> bool:
    """Whether `category` is another name of one of COCO's, as sofa of couch, not one of a kind, as man of person."""
    known = concept(category)
    names = (known, *_objects()["names"].get(known, ()))
    spellings = {form.replace(" ", "") for name in names for form in (name, singular(name), plural(name))}
    return known in _objects()["names"] and plain(category).replace(" ", "") in spellings


def is_kind(name: str) -> bool:
    """Whether a name is one of special cases or parts of a COCO category, as men of person."""
    return any(one_of(name) in names for names in _objects()["kinds"].values())


def _both_forms(name: str, category: str) -> _Names:
    """The name as the data has it, and its singular and plural: platelets, platelet; scissors, pair of scissors."""
    one, several = plain(singular(name)), plain(plural(name))
    if not name or one == several:
        return {name: (category, None)} if name else {}
    return {name: (category, None), one: (category, False), several: (category, True)}


@cache
def _coco_names() -> _Names:
    """The names of COCO's categories; phrases that only contain a name have an empty category."""
    found: _Names = {}
    for name in _objects()["others"]:
        found |= _both_forms(name, "")
    for category, names in (*_objects()["names"].items(), *_objects()["kinds"].items()):
        for name in (category, *names):
            found |= _both_forms(name, category)
    return found


@cache
def _compounds() -> Mapping[str, str]:
    """COCO's categories by their names in one word: `diningtable`, `trafficlight`."""
    return {name.replace(" ", ""): category for name, (category, _) in _coco_names().items() if category}


@cache
def _objects() -> Mapping[str, Any]:
    return dict(load_yaml("vistune.scene", "objects.yaml"))
