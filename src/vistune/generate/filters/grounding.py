"""Objects that a text says are in the image although neither a box nor a caption supports them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from vistune.generate.filters.sample import BOX, IS_THERE, Clause, Sample, Text, word_list
from vistune.generate.languages import ENGLISH
from vistune.records import Box
from vistune.scene.english import words_of
from vistune.scene.evidence import implied, similar, supported, supported_by
from vistune.scene.mentions import Mention, MentionFinder

_YES = re.compile(r"^(?:yes|yeah|yep|indeed|certainly|there (?:is|are) (?!no))\b")
_BOX_MARGIN = 0.015
"""Difference of a box's edge, in fractions of the image: two decimals are within 0.005."""
_IN_IMAGE = re.compile(r" (?:in|on|visible|present|anywhere|here|at)\b.*")


def ungrounded(sample: Sample) -> bool:
    """An answer states that there is an object that no box and no caption supports.

    Images without boxes are not judged: a missing box then means nothing, and captions mention few objects.
    """
    if not sample.boxes or sample.kind.language != ENGLISH:
        return False
    named = {_affirmed(sample.finder, *exchange) for exchange in sample.exchanges} - {None}
    for clause in chain.from_iterable(sample.statements.values()):
        named |= {mention.category for mention in clause.mentions if _stated(clause, mention)}
    boxed = {box.category for box in sample.boxes}
    return not named <= boxed and not named <= _supported(sample)


def wrong_box(sample: Sample) -> bool:
    """A box in the text is none of the image's, or its pair of question and answer names only other objects."""
    if not sample.kind.has_boxes:
        return False
    return any(_box_differs(sample, f"{question.plain} {answer.plain}") for question, answer in sample.exchanges)


def _box_differs(sample: Sample, text: str) -> bool:
    corners = [tuple(map(float, found)) for found in BOX.findall(text)]
    words = words_of(BOX.sub("", text))
    named = {mention.category for mention in sample.finder.mentions(words)} | supported_by(words, sample.finder)
    boxes = [[box for box in sample.boxes if _same(box, one)] for one in corners]
    if not corners or not all(boxes):
        return True
    return bool(named) and not any(box.category in named for found in boxes for box in found)


def _same(box: Box, corners: Sequence[float]) -> bool:
    own = (box.x1, box.y1, box.x2, box.y2)
    return all(abs(one - other) <= _BOX_MARGIN for one, other in zip(own, corners, strict=True))


def _supported(sample: Sample) -> set[str]:
    """The categories that boxes or captions support, generously: also what annotators mistake for them."""
    boxed = {box.category for box in sample.boxes}
    categories = {box.category for box in sample.record.boxes}
    found = supported(categories, sample.record.captions, sample.finder) | boxed
    return found.union(*map(implied, found), *map(similar, found))


def _affirmed(finder: MentionFinder, question: Text, answer: Text) -> str | None:
    """The category of which "is there a dog?" gets a yes."""
    question_match = IS_THERE.match(question.plain) if _YES.match(answer.plain) else None
    if not question_match:
        return None
    words = _IN_IMAGE.sub("", question_match[1]).split()
    found = finder.mentions(words)
    return found[0].category if len(found) == 1 and found[0].end == len(words) else None


def _stated(clause: Clause, mention: Mention) -> bool:
    """Whether the clause states that the mentioned object is in the image."""
    after = clause.after(mention.end)
    if after and after[0].isalnum() and after not in word_list("followers") | word_list("seen"):
        return False
    if any(other.end == mention.start for other in clause.mentions):
        return False  # "a dog bed"
    if mention.category == "orange" and (after in ("and", "or") or clause.before(mention.start) not in ("an", "the")):
        return False
    start = _determiner(clause, mention.start)
    if start is None:
        return mention.plural is not False and _announced(clause, mention)
    if mention.category == "person" and clause.words[start] in ("the", "this", "that", "his", "her", "its", "their"):
        return False
    if clause.words[start] in ("a", "an") and (after, clause.after(mention.end + 1)) in (("is", "a"), ("is", "an")):
        return False
    return _present(clause, start)


def _determiner(clause: Clause, start: int) -> int | None:
    """Where the noun phrase begins, if with a determiner at most three words before the noun."""
    for at in range(start - 1, max(start - 5, -1), -1):
        word = clause.words[at]
        if word == "of" and clause.before(at) in word_list("kinds_of"):
            return _determiner(clause, at - 1) if at > 1 else at - 1
        if word in word_list("determiners") or word.isdecimal():
            return at
        if word in word_list("followers") or not word[0].isalnum():
            return None
    return None


def _present(clause: Clause, start: int) -> bool:
    """Whether what comes before a noun phrase places it in the image, not in a comparison, a purpose, a wish."""
    before, second = clause.before(start), clause.before(start - 1)
    if before in word_list("absent") or (second == "to" and before not in word_list("followers")):
        return False
    if before == "of":
        return second in word_list("kinds_of")
    return before != "to" or second in word_list("touching")


def _announced(clause: Clause, mention: Mention) -> bool:
    """Whether the clause states that there are objects of a plural without an article: "lined with cars"."""
    if clause.after(mention.end) in ("are", "were") and clause.after(mention.end + 1) in word_list("seen"):
        return True
    words = clause.words[max(mention.start - 4, 0) : mention.start]
    near = words[max((n + 1 for n, word in enumerate(words) if not word[0].isalnum()), default=0) :]
    return not word_list("cues").isdisjoint(near)
