"""Places of objects that a text states and the boxes contradict."""

from __future__ import annotations

import re

from vistune.generate.filters.sample import Clause, Sample, Text, clauses, word_list
from vistune.generate.languages import ENGLISH
from vistune.records import Box
from vistune.scene.facts import holds, only
from vistune.scene.mentions import Mention

_IMAGE = Box("image", 0, 0, 1, 1)
_RELATIONS = {
    "left": "left of", "right": "right of", "top": "above", "upper": "above", "bottom": "below", "lower": "below",
    "above": "above", "below": "below", "beneath": "below", "underneath": "below",
}  # fmt: skip
_BESIDE = re.compile(
    r"^(?:(?:(?:to|on|at) the (?:far |immediate )?)?(left|right)(?: hand)?(?: side)? of"
    r"|(above|below|beneath|underneath))\b(?! the (?:image|picture|photo|photograph|scene|frame)\b)"
)
_SIDE = re.compile(
    r"^(?:on|in|at|to|towards?|near) the (?:far |very )?(?:(top|upper|bottom|lower)(?: (left|right))?|(left|right))\b"
    r"(?: hand)?(?: (?:side|part|edge|half|portion|section|area|corner))?"
    r"( of the (?:image|picture|photo|photograph|scene|frame)\b)?"
)
_WHERE = re.compile(
    r"^where(?: is|'s) (?:the|a|an) (.+?)(?: (?:located|placed|situated|positioned))?"
    r"(?: in the (?:image|picture|photo|scene))?\?$"
)
_IS_IT = re.compile(r"^(?:is|are) (the .+?)\?$")
_YES = re.compile(r"^(?:yes|yeah|indeed|correct)\b")
_IT_IS = re.compile(r"^(?:it is |it's |it can be seen |it is located )")


def wrong_place(sample: Sample) -> bool:
    """An answer puts an object on a side of another or of the image where its box's centre clearly is not.

    Only where there is one box of each category named; what is behind, on or next to something is not judged.
    """
    if not sample.boxes or sample.kind.language != ENGLISH:
        return False
    return any(
        any(_misplaces(sample, clause) for clause in sample.statements[answer])
        or _answers_wrong(sample, question, answer)
        for question, answer in sample.exchanges
    )


def _misplaces(sample: Sample, clause: Clause) -> bool:
    sides = [_RELATIONS[word] in ("left of", "right of") for word in clause.words if word in _RELATIONS]
    if not sides or len(set(sides)) < len(sides):
        return False  # no side, or two on one axis: "to the left and to the right of"
    for at, word in enumerate(clause.words):
        if word in word_list("before_sides") or word in _RELATIONS:
            rest = " ".join(clause.words[at : at + 14])
            if (beside := _BESIDE.match(rest)) and (other := _named(clause, at + len(beside[0].split()))):
                return _beside_wrong(sample, clause, at, other, _RELATIONS[beside[1] or beside[2]])
            if side := _SIDE.match(rest):
                return _side_wrong(sample, clause, at, side)
    return False


def _beside_wrong(sample: Sample, clause: Clause, at: int, other: Mention, relation: str) -> bool:
    after = clause.after(other.end)
    if at > 0 and after.isalnum() and after not in word_list("followers"):
        return False
    subject = _subject(clause, at) if at else _inverted(clause, other.end)
    against = only(sample.boxes, other.category)
    if subject is None or against is None or other.category == subject.category:
        return False
    box = only(sample.boxes, subject.category)
    return box is not None and holds(relation, box, against) is False


def _side_wrong(sample: Sample, clause: Clause, at: int, side: re.Match[str]) -> bool:
    end = at + len(side[0].split())
    if at and not side[4] and clause.after(end) not in ("", ","):
        return False
    subject = _subject(clause, at) if at else _inverted(clause, end)
    return subject is not None and _off(sample, subject.category, side)


def _off(sample: Sample, category: str, side: re.Match[str]) -> bool:
    """Whether the one box of that category is on the other side of the image's middle."""
    box = only(sample.boxes, category)
    return box is not None and any(
        holds(_RELATIONS[word], box, _IMAGE) is False for word in (side[1], side[2], side[3]) if word
    )


def _named(clause: Clause, at: int) -> Mention | None:
    """The object that is mentioned at `at`, after an article and at most two adjectives."""
    for mention in clause.mentions:
        if at < mention.start <= at + 3 and mention.plural is not True:
            between = clause.words[at : mention.start]
            if between[0] in ("the", "a", "an") and word_list("followers").isdisjoint(between):
                return mention
    return None


def _subject(clause: Clause, at: int) -> Mention | None:
    """The object that the words up to `at` place there and say nothing else about."""
    mention = next((mention for mention in reversed(clause.mentions) if mention.end <= at), None)
    if mention is None or mention.plural is True:
        return None
    between = clause.words[mention.end : at]
    placed = word_list("placed").issuperset(word for word in between if word != ",")
    return mention if placed and _leads(clause, mention) else None


def _leads(clause: Clause, mention: Mention) -> bool:
    """Whether nothing but "there is", "you see" and the like is before the object, so that the clause is about it."""
    lead = clause.words[: mention.start]
    articles = [n for n, word in enumerate(lead) if word in ("the", "a", "an")]
    if not articles or len(lead) - articles[-1] > 3:
        return False
    before = (word for word in lead[: articles[-1]] if word != ",")
    return all(word in word_list("placed") or word in word_list("whole") for word in before)


def _inverted(clause: Clause, end: int) -> Mention | None:
    """The object that a clause names after its place: "on the left, there is a dog"."""
    mention = next((mention for mention in clause.mentions if mention.start >= end), None)
    if mention is None or mention.plural is True or clause.after(mention.end) in ("and", "of"):
        return None
    lead = clause.words[end : mention.start]
    adjectives = [word for word in lead if word not in word_list("placed") and word not in (",", "a", "an", "the")]
    if len(adjectives) > 2 or len(lead) == len(adjectives) or not word_list("followers").isdisjoint(adjectives):
        return None
    return mention


def _answers_wrong(sample: Sample, question: Text, answer: Text) -> bool:
    """Whether "where is the dog?" gets a wrong side, or "is the dog left of the cat?" a wrong yes."""
    if where := _WHERE.match(question.plain):
        place = " ".join(_IT_IS.sub("", answer.plain).split(".")[0].replace("-", " ").split())
        side, found = _SIDE.match(place), sample.finder.mentions(where[1].split())
        if side and len(found) == 1 and (side[4] or side.end() == len(place)):
            return _off(sample, found[0].category, side)
    if (claim := _IS_IT.match(question.plain)) and _YES.match(answer.plain):
        return any(_misplaces(sample, clause) for clause in clauses(Text(claim[1]), sample.finder))
    return False
