"""The form of a conversation: the order and number of turns, their length, whether they end, whether they repeat."""

from __future__ import annotations

import re

from vistune.generate.filters.sample import Sample, Text, word_list
from vistune.generate.languages import UNSPACED

_ENDED = re.compile(r"[.!?:\u2026\u0964][\"')\]*_`\s]*$")
_SENTENCE_END = re.compile(r"[.!?][\"')*]*\s+\S")
_ITEM = re.compile(r"^[ \t]*(?:[-*\u2022+]|\(?\w{1,2}[.)])[ \t]+\S")
_OPEN = re.compile(  # words that something has to follow
    r"""\b(?:the|an?|and|or|but|nor|of|to|with|in|at|by|for|from|into|onto|as|than|that|which|who|whose|is|are|was|were|be
    |has|have|had|its|his|her|their|your|our|my|because|while|where|when|if|such|including|between|both|possibly|like
    |very|this|these|those|near|towards?|beside|besides|behind|under|over|above|below|on)$""",
    re.VERBOSE,
)
_ENDS_OPEN = frozenset(("in", "on", "at", "of", "with", "for", "to", "from", "by", "is", "are", "has", "was", "were"))
_LONG, _ONE_SENTENCE = 40, 12
_FULL_ANSWER = 6  # words; a shorter answer, as "Yes, it is.", is right for many questions


def turn_order(sample: Sample) -> bool:
    """The turns do not alternate from a first one of the user to a last one of the assistant."""
    roles = [turn.role for turn in sample.turns]
    return not roles or roles != ["user", "assistant"] * (len(roles) // 2)


def turn_count(sample: Sample) -> bool:
    """The number of pairs of question and answer is outside the kind's bounds."""
    return not sample.kind.turns[0] <= len(sample.answers) <= sample.kind.turns[1]


def too_short(sample: Sample) -> bool:
    """An answer has fewer words than the kind allows."""
    return any(length < sample.kind.words[0] for length in _lengths(sample))


def too_long(sample: Sample) -> bool:
    """An answer has more words than the kind allows."""
    return any(length > sample.kind.words[1] for length in _lengths(sample))


def truncated(sample: Sample) -> bool:
    """An answer stops within a sentence."""
    if sample.kind.language in UNSPACED:
        return False
    open_ends = [text for text in sample.answers if not _ENDED.search(text.plain)]
    if not open_ends:
        return False
    others_end = len(sample.answers) > len(open_ends)
    return any(_stops_short(text, others_end) for text in open_ends)


def repeated_turn(sample: Sample) -> bool:
    """A question comes twice, in the same or nearly the same words, or a full answer does."""
    questions = [_core(question) for question, _ in sample.exchanges]
    answers = [answer.spaced for answer in sample.answers if len(answer.words) > _FULL_ANSWER]
    return len(set(questions)) < len(questions) or len(set(answers)) < len(answers)


def _core(question: Text) -> tuple[str, ...]:
    filler = word_list("question_filler")
    return tuple(word for word in question.words if word not in filler) or tuple(question.words)


def _lengths(sample: Sample) -> list[int]:
    return [len(text.plain.split()) for text in sample.answers]


def _stops_short(text: Text, others_end: bool) -> bool:
    plain = text.plain.rstrip()
    if len(text.words) < 3:
        return False
    if plain.endswith((",", ";", "-", "(", "/", "\u2013", "\u2014")):
        return True
    if _OPEN.search(plain) and (len(text.words) > 5 or text.words[-1] not in _ENDS_OPEN):
        return True
    if "\n" in plain and _ITEM.match(plain.splitlines()[-1]):
        return False  # a list's items need no full stop
    if _SENTENCE_END.search(plain) or len(text.words) >= _LONG:
        return True
    return others_end and len(text.words) >= _ONE_SENTENCE
