"""Places of objects that a text states and the boxes contradict."""

from __future__ import annotations

import re

from vistune.facts import holds, only
from vistune.generate.filters.objects import Mention, Names, names
from vistune.generate.filters.sample import Sample, Text
from vistune.generate.filters.statements import Clause, clauses
from vistune.generate.filters.word_lists import word_list
from vistune.records import Box

_IMAGE = Box("image", 0, 0, 1, 1)
_SIDES = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}
_OF_IMAGE = r"of the (?:image|picture|photo|photograph|scene|frame)"
_RELATION = re.compile(
    r"^(?:(?:to|on) the (?:far |immediate )?(left|right)(?: side)? of|(above|below|beneath|underneath))\b"
)
_SIDE = re.compile(
    r"^(?:on|in|at|to|towards?|near) the (?:far |very |upper |lower )?(left|right|top|bottom)"
    rf"(?: (?:hand )?(?:side|part|edge|half|portion|section|area|corner))?(?: {_OF_IMAGE})"
)
_BARE_SIDE = re.compile(
    r"^(?:it is |it's |it can be seen )?(?:on|in|at|to) the (?:far )?(left|right|top|bottom)\b"
    r"(?: (?:hand )?(?:side|part|edge|half|corner))?(?! of (?!the (?:image|picture|photo|scene|frame)))"
)
_WHERE = re.compile(
    r"^where(?: is|'s) (?:the|a|an) (.+?)(?: (?:located|placed|situated|positioned))?"
    r"(?: in the (?:image|picture|photo|scene))?\?$"
)
_ASKED = re.compile(r"^(?:is|are) (the .+?)\?$")
_YES = re.compile(r"^(?:yes|yeah|indeed|correct)\b")


def wrong_place(sample: Sample) -> bool:
    """An answer puts an object on a side of another or of the image where its box's centre clearly is not.

    Only where there is one box of each category named; what is behind, on or next to something is not judged.
    """
    if len(sample.boxes) == 0 or all(word_list("sides").isdisjoint(q.known | a.known) for q, a in sample.exchanges):
        return False
    known = names(sample.vocabulary)
    return any(
        _misplaces(sample, answer, known) or _answers_wrong(sample, question, answer, known)
        for question, answer in sample.exchanges
    )


def _misplaces(sample: Sample, text: Text, known: Names) -> bool:
    if word_list("sides").isdisjoint(text.known):
        return False
    return any(_clause_misplaces(sample, clause) for clause in clauses(text, known))


def _clause_misplaces(sample: Sample, clause: Clause) -> bool:
    sides = word_list("sides").intersection(clause.words)
    if len(sides) != 1:
        return False
    for at in range(len(clause.words)):
        rest = " ".join(clause.words[at : at + 14])
        if relation := _RELATION.match(rest):
            end = at + len(relation[0].split())
            if placed := _named(clause, end):
                return _wrong(sample, clause, at, placed, _relation(relation))
        if side := _SIDE.match(rest):
            return _wrong(sample, clause, at, None, _SIDES[side[1]], at + len(side[0].split()))
    return False


def _relation(match: re.Match[str]) -> str:
    if match[1]:
        return _SIDES[match[1]]
    return "above" if match[2] == "above" else "below"


def _named(clause: Clause, at: int) -> Mention | None:
    """The object named right there, after an article and at most two adjectives."""
    for mention in clause.mentions:
        if at <= mention.start <= at + 3 and mention.many is not True:
            between = clause.words[at : mention.start]
            if between and between[0] in ("the", "a", "an") and word_list("followers").isdisjoint(between):
                return mention
    return None


def _wrong(
    sample: Sample, clause: Clause, at: int, other: Mention | None, relation: str, end: int | None = None
) -> bool:
    """Whether the object before place `at`, or after the phrase where that begins the clause, is elsewhere."""
    subject = _subject(clause, at)
    if at == 0:
        subject = _inverted(clause, other.end if other else end or 0)
    if subject is None or (other and other.category == subject.category):
        return False
    if other and at > 0 and clause.after(other.end).isalnum() and clause.after(other.end) not in word_list("followers"):
        return False
    box = only(sample.boxes, subject.category)
    against = only(sample.boxes, other.category) if other else _IMAGE
    return box is not None and against is not None and holds(relation, box, against) is False


def _subject(clause: Clause, at: int) -> Mention | None:
    """The object of which the words up to `at` say no more than that it is placed there."""
    for mention in reversed(clause.mentions):
        if mention.end <= at:
            between = clause.words[mention.end : at]
            alone = clause.words[: mention.start]
            if mention.many is True or not word_list("placed").issuperset(between) or "and" in alone[-3:]:
                return None
            return mention
    return None


def _inverted(clause: Clause, end: int) -> Mention | None:
    """The object that a clause names after its place: "on the left, there is a dog"."""
    for mention in clause.mentions:
        if mention.start >= end:
            between = clause.words[end : mention.start]
            lead = [word for word in between if word not in word_list("placed") and word not in (",", "a", "an", "the")]
            follows = clause.after(mention.end)
            if mention.many is True or len(lead) > 2 or not between or not word_list("followers").isdisjoint(lead):
                return None
            return None if follows in ("and", "of") or (follows and follows[0] in "'") else mention
    return None


def _answers_wrong(sample: Sample, question: Text, answer: Text, known: Names) -> bool:
    """Whether "where is the dog?" gets a wrong side, or "is the dog left of the cat?" a wrong yes."""
    if (where := _WHERE.match(question.plain)) and (side := _BARE_SIDE.match(answer.plain)):
        found = known.find(where[1].split())
        box = only(sample.boxes, found[0].category) if len(found) == 1 else None
        return box is not None and holds(_SIDES[side[1]], box, _IMAGE) is False
    if (asked := _ASKED.match(question.plain)) and _YES.match(answer.plain):
        return _misplaces(sample, Text(asked[1]), known)
    return False
