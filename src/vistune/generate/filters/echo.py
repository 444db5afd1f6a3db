"""Answers that repeat the question, the captions, an example, or themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from vistune.generate.filters.sample import Sample, Text

_SHORT, _CAPTION, _COPIED, _EXAMPLE = 4, 6, 8, 8  # minimum of words of what counts as copied
_LEAD_WORDS = 7  # maximum of words that lead up to a caption
_SENTENCE = re.compile(r"[.!?\n]+\s*")
_LEAD = re.compile(
    r"^(?:(?:sure|certainly|yes|of course|ok|okay|well)[,.!:]?\s+)?"
    r"(?:(?:in )?(?:this|the) (?:image|picture|photo|scene)"
    r"(?: shows| depicts| features| is of| displays)?,?\s+|it (?:shows|is)\s+|you asked:?\s+|question:?\s+)"
)


def echo(sample: Sample) -> bool:
    """An answer repeats its question, an example's answer, or the captions as they stand."""
    captions = {text.spaced: len(text.words) for text in sample.captions if len(text.words) >= _SHORT}
    examples = _sentences(sample.kind.examples)
    return any(
        _repeats(question, answer)
        or any(sentence in answer.spaced for sentence in examples)
        or _recites(answer, captions)
        for question, answer in sample.exchanges
    )


def repetition(sample: Sample) -> bool:
    """An answer repeats a sentence or a run of words."""
    return any(map(_loops, sample.answers))


def _repeats(question: Text, answer: Text) -> bool:
    if len(question.words) < 3 or question.spaced not in answer.spaced:
        return False
    return answer.spaced.startswith(question.spaced) or "?" in answer.plain or len(question.words) > _SHORT


def _recites(answer: Text, captions: Mapping[str, int]) -> bool:
    """Whether an answer is captions joined, or no more than one, be it with a lead ("Here you can see ...")."""
    text, words = answer.spaced, len(answer.words)
    copied = {caption: length for caption, length in captions.items() if caption in text}
    if not copied:
        return False
    full = [length for length in copied.values() if length >= _CAPTION]
    if len(full) > 1 and sum(full) >= words / 3:
        return True
    if len(copied) > 1 and sum(copied.values()) >= max(0.7 * words, _COPIED):
        return True
    return any(_alone(answer, caption, length) for caption, length in copied.items())


def _alone(answer: Text, caption: str, length: int) -> bool:
    words = len(answer.words)
    if length == words > _SHORT:
        return True
    lead = _LEAD.match(answer.plain)
    left = words - (len(lead[0].split()) if lead else 0)
    if length >= (_COPIED + 2 if lead else _COPIED) and length >= 0.9 * left:
        return True
    return length >= _COPIED + 2 and words - length <= _LEAD_WORDS and answer.spaced.endswith(caption)


def _loops(answer: Text) -> bool:
    words = answer.words
    if len(words) < _EXAMPLE:
        return False
    sentences = [part for part in _SENTENCE.split(answer.plain) if part.count(" ") > 3]
    if len(set(sentences)) < len(sentences):
        return True
    if len(set(words)) > 0.55 * len(words) or len(words) > 150:
        return False
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return len(set(runs)) < 0.7 * len(runs) or any(
        a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)
    )


@cache
def _sentences(examples: tuple[tuple[str, str], ...]) -> list[str]:
    """The sentences of the examples' replies, spaced, that are long enough to be recognised as copies."""
    texts = [Text(part) for _, reply in examples for part in _SENTENCE.split(reply)]
    return [text.spaced for text in texts if len(text.words) >= _CAPTION]
