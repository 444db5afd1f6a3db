"""VQA accuracy, and the normaliser of answers: the rules of VQA's own evaluation (GT-Vision-Lab/VQA, vqaEval.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from vistune.resources import word_list
from vistune.scene.english import NUMBERS

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_WITH_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the original passes re.UNICODE, which is 32, where re.sub expects the number of replacements
_ARTICLES = ("a", "an", "the")
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(NUMBERS)} | {"none": "0"}
_ENOUGH = 3
"""Annotators who must give an answer for it to be all right."""


@lru_cache(2**14)  # the ten annotators of a question largely agree
def normalise(text: str) -> str:
    """The answer as VQA's evaluation compares it: without punctuation and articles, numbers as digits.

    `1,000-2,000 km/h` becomes `10002000 kmh`, `A/C` becomes `c`, and `left-hand` `left hand`: a mark is removed where
    a space is beside one of its kind, or a number of the text has a comma; otherwise it becomes a space.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    words = [_NUMBER_WORDS.get(word, word) for word in _without_punctuation(text).lower().split()]
    return " ".join(_contractions().get(word, word) for word in words if word not in _ARTICLES)


def accuracy(answer: str, references: Sequence[str]) -> float:
    """VQA accuracy of an answer under the rule `vqa-normalised`: it and the annotators' are normalised, always.

    So do LLaVA and lmms-eval.
    """
    return _agreement(normalise(answer), [normalise(reference) for reference in references])


def official_accuracy(answer: str, references: Sequence[str]) -> float:
    """VQA accuracy of an answer under the rule `vqa`: texts are normalised only where the annotators differ.

    So `Yes` scores 0 where all ten annotators say `yes`.
    """
    if len({reference.strip() for reference in references}) > 1:
        return accuracy(answer, references)
    return _agreement(answer.strip(), [reference.strip() for reference in references])


def _agreement(answer: str, references: Sequence[str]) -> float:
    """min(1, n / 3) for n other annotators who gave the answer, as the mean over leaving each annotator out.

    With one to three annotators none is left out and all of them are enough.
    """
    equal = sum(reference == answer for reference in references)
    if len(references) <= _ENOUGH:
        return equal / len(references) if references else 0.0
    with_one_less = min(1.0, (equal - 1) / _ENOUGH)
    return (equal * with_one_less + (len(references) - equal) * min(1.0, equal / _ENOUGH)) / len(references)


def _without_punctuation(text: str) -> str:
    comma = bool(_DIGITS_WITH_COMMA.search(text))
    changed = text
    for mark in (mark for mark in _PUNCTUATION if mark in text):
        removed = comma or f"{mark} " in text or f" {mark}" in text
        changed = changed.replace(mark, "" if removed else " ")
    return _PERIOD.sub("", changed, count=_MAX_PERIODS)


@cache
def _contractions() -> Mapping[str, str]:
    whole = word_list("vistune.evaluate.benchmarks", "vqa_contractions.txt")
    missing = {word[:at] + word[at + 1 :]: word for word in whole for at, letter in enumerate(word) if letter == "'"}
    return missing | {"somebody'd": "somebodyd"}  # the original's list has this one the wrong way round
