"""Answers that say what was given in place of an answer, or the same over and over."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import pairwise

from vistune.generate.filters.sample import Sample, Text

_CAPTION, _COPIED, _EXAMPLE = 6, 8, 8  # least words of what counts as copied
_SENTENCE = re.compile(r"[.!?\n]+\s*")
_LEAD = re.compile(
    r"^(?:(?:sure|certainly|yes|of course|ok|okay|well)[,.!:]?\s+)?"
    r"(?:(?:in )?(?:this|the) (?:image|picture|photo|scene)"
    r"(?: shows| depicts| features| is of| displays)?,?\s+|it (?:shows|is)\s+|you asked:?\s+|question:?\s+)"
)


def echo(sample: Sample) -> bool:
    """An answer repeats its question, an example's answer, or the captions as they stand."""
    captions = _captions(tuple(sample.captions))
    given = _replies(sample.kind.examples)
    return any(
        _repeats(question, answer)
        or (len(answer.words) >= _EXAMPLE and answer.spaced in given)
        or _recites(answer, captions)
        for question, answer in sample.exchanges
    )


def repetition(sample: Sample) -> bool:
    """An answer says a sentence or a run of words again and again."""
    return any(map(_loops, sample.answers))


def _repeats(question: Text, answer: Text) -> bool:
    asked = question.words
    if len(asked) < 3 or len(answer.words) < len(asked):
        return False
    if answer.words[: len(asked)] == asked:
        return True
    if asked[:4] != answer.words[:4] and asked[-1] not in answer.known:
        return False
    return question.spaced in answer.spaced and "?" in answer.plain


def _recites(answer: Text, captions: tuple[str, ...]) -> bool:
    if not captions:
        return False
    text = answer.spaced
    copied = [caption for caption in captions if caption in text]
    if not copied:
        return False
    covered = sum(caption.count(" ") - 1 for caption in copied)
    if len(copied) > 1 and covered >= len(answer.words) / 3:
        return True
    lead = _LEAD.match(answer.plain)
    left = len(answer.words) - (len(lead[0].split()) if lead else 0)
    return covered >= (_COPIED + 2 if lead else _COPIED) and covered >= 0.9 * left


def _loops(answer: Text) -> bool:
    words = answer.words
    if len(words) < _EXAMPLE:
        return False
    if len(answer.known) > 0.55 * len(words) or len(words) > 150:
        sentences = [part for part in _SENTENCE.split(answer.plain) if part.count(" ") > 3]
        return len(set(sentences)) < len(sentences)
    runs = [" ".join(words[n : n + 4]) for n in range(len(words) - 3)]
    if len(set(runs)) < 0.7 * len(runs):
        return True
    if any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return True
    sentences = [part for part in _SENTENCE.split(answer.plain) if part.count(" ") > 3]
    return any(a == b for a, b in pairwise(sorted(sentences)))


@lru_cache(maxsize=64)  # the kinds of an image, one after the other, show the same captions
def _captions(captions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in (Text(c).spaced for c in captions) if text.count(" ") > _CAPTION))


@cache
def _replies(examples: tuple[tuple[str, str], ...]) -> str:
    return Text("\n".join(reply for _, reply in examples)).spaced
