"""Numbers of objects that a text states and the boxes contradict."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from vistune.generate.filters.sample import Clause, Sample, Text, word_list
from vistune.generate.languages import ENGLISH
from vistune.scene.english import NUMBERS, words_of
from vistune.scene.evidence import similar, supported_by
from vistune.scene.facts import counts
from vistune.scene.mentions import Mention

_MANY = 10  # from this many objects on, annotators draw boxes around some only
_UNCOUNTABLE = frozenset(  # one box stands for a bunch, a pair, a shelf or a slice
    ("banana", "apple", "orange", "broccoli", "carrot", "book", "skis", "scissors", "dining table", "potted plant")
)
_HOW_MANY = re.compile(r"^how many ([^?]+)\?$")
_REPLY = re.compile(
    r"^(?:there (?:are|is) |i (?:can )?(?:see|count) |you can see |(?:in total,? )|exactly |just |only |a total of )*"
    r"(\w+)\b(?! or| to| and)(.*)"
)


def wrong_count(sample: Sample) -> bool:
    """An answer states a number of objects that differs from the number of boxes, and no caption supports it.

    More objects than boxes are always wrong, fewer only in a statement about the whole image ("there are two dogs in
    the picture"), for "two dogs are lying down" may leave others standing.
    """
    if sample.kind.language != ENGLISH or not (boxed := _countable(sample)):
        return False
    return any(
        _answered_wrong(sample, boxed, question, answer) or _stated_wrong(sample, boxed, answer)
        for question, answer in sample.exchanges
        if not _numbers().keys().isdisjoint(answer.words)
    )


def _countable(sample: Sample) -> Counter[str]:
    crowds = {box.category for box in sample.boxes if box.crowd} | _UNCOUNTABLE
    return Counter({c: n for c, n in counts(sample.boxes).items() if n < _MANY and c not in crowds})


def _stated_wrong(sample: Sample, boxed: Counter[str], answer: Text) -> bool:
    claims = [
        (clause, mention, *claim)
        for clause in sample.statements[answer]
        for mention in clause.mentions
        if mention.category in boxed and (claim := _claim(clause, mention))
    ]
    once = Counter(mention.category for _, mention, *_ in claims)
    return any(
        _contradicts(
            sample, boxed, mention.category, number, once[mention.category] == 1 and _whole(clause, mention, at)
        )
        for clause, mention, number, at in claims
    )


def _claim(clause: Clause, mention: Mention) -> tuple[int, int] | None:
    """The number that counts the mention, at most two adjectives before it, and its place."""
    for at in range(mention.start - 1, max(mention.start - 4, -1), -1):
        word = clause.words[at]
        if number := _numbers().get(word):
            agrees = mention.plural is None or mention.plural is (number > 1)
            return (number, at) if agrees and _exact(clause, at) else None
        stops = word in word_list("followers") or word in word_list("determiners") or not word[0].isalnum()
        if stops and (word, clause.before(at)) != ("of", "pair"):
            return None
    return None


def _exact(clause: Clause, at: int) -> bool:
    """Whether no word before the number at `at` makes it approximate, a part, or a number of absent objects."""
    before = clause.before(at)
    if before == "of":
        return clause.before(at - 1) in word_list("kinds_of")
    return before not in word_list("about")


def _whole(clause: Clause, mention: Mention, at: int) -> bool:
    """Whether the clause counts all such objects in the image: no word before or after narrows it down."""
    words, whole = clause.words, word_list("whole")
    if not _own_name(words[mention.start : mention.end], mention.category):
        return False
    rest = [word for word in (*words[:at], *words[mention.end :]) if word != ","]
    return bool(rest) and whole.issuperset(rest)


def _answered_wrong(sample: Sample, boxed: Counter[str], question: Text, answer: Text) -> bool:
    """Whether a bare "how many dogs are there?" gets a wrong number."""
    how_many = _HOW_MANY.match(question.plain)
    reply = _REPLY.match(answer.plain) if how_many else None
    if not how_many or not reply or (number := _numbers().get(reply[1])) is None:
        return False
    words = how_many[1].split()
    mentions = sample.finder.mentions(words)
    if len(mentions) != 1 or mentions[0].start > 0 or mentions[0].category not in boxed:
        return False
    mention, counted = mentions[0], words_of(reply[2].partition(".")[0])
    same = all(one.category == mention.category for one in sample.finder.mentions(counted[:3]))
    ends = not counted or counted[0] in word_list("whole") or bool(sample.finder.mentions(counted[:2]))
    if not same or not ends or "and" in counted:
        return False
    whole = word_list("whole").issuperset(words[mention.end :]) and _own_name(words[: mention.end], mention.category)
    return _contradicts(sample, boxed, mention.category, number, whole)


def _contradicts(sample: Sample, boxed: Counter[str], category: str, number: int, whole: bool) -> bool:
    present = boxed[category]
    maximum = present + sum(counts(sample.boxes)[other] for other in similar(category))
    if (present <= number <= maximum) or (number < present and not whole):
        return False
    return not _captions_disagree(sample, category, present, number)


def _captions_disagree(sample: Sample, category: str, present: int, claimed: int) -> bool:
    """Whether a caption counts the category otherwise than the boxes, or has the claimed number at all."""
    for caption in sample.captions:
        has_number = any(_numbers().get(word) == claimed > 1 for word in caption.words)
        if has_number and category in supported_by(caption.words, sample.finder):
            return True
        clause = Clause(caption.words, sample.finder.mentions(caption.words))
        numbers = [_claim(clause, mention) for mention in clause.mentions if mention.category == category]
        if any(found and found[0] > max(present, 1) for found in numbers):
            return True
    return False


def _own_name(words: list[str], category: str) -> bool:
    """Whether the words are the category's name, not that of a kind of it, as "men" are of people."""
    return category != "person" or words[-1] in ("person", "people", "persons")


@cache
def _numbers() -> dict[str, int]:
    words = {word: number for number, word in enumerate((*NUMBERS, "eleven", "twelve")) if number}
    return words | {str(number): number for number in range(1, 13)} | {"both": 2, "pair": 2}
