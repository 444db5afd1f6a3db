"""What benchmarks read alike: answers of yes or no, the names of images, a question within a prompt, small files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from vistune import reading
from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_COCO = re.compile(r"(?:COCO_[a-z0-9]+_)?0*(\d+)")
_FUNCTION_WORDS = {"a", "an", "the", "in", "of", "on", "at", "to", "and"}
_INSTRUCTION = re.compile(r"\s*please answer yes or no\.?\s*$", re.IGNORECASE)


def read_yes_no(answer: str, question: str, *, official: bool = False) -> tuple[str | None, str]:
    """`yes`, `no` or None for an answer, and how it was read; POPE's rule, without its misreadings.

    POPE's official rule (AoiDragon/POPE, evaluate.py) takes the text up to the first full stop. It is "no" if one of
    its words is No, no or not, and everything else is "yes", also an empty answer. Here the first sentence with a word
    counts, whatever the case of its words and the marks beside them. One with neither yes, no nor not is read only if
    it shares a word with the question: "There is a dog" is yes, "I don't see a dog" is no, and "Maybe" is neither.
    `official` follows the official rule to the letter; only an answer without any word stays unread.
    """
    sentence = next((part for part in answer.split(".") if _WORD.search(part)), "")
    words = _words(sentence)
    if not words:
        return None, "is empty"
    if official:
        spaced = answer.split(".")[0].replace(",", "").split(" ")
        return ("no", "says no or not") if {"No", "no", "not"} & set(spaced) else ("yes", "says neither no nor not")
    if {"no", "not"} & words:
        return "no", "says no or not"
    if "yes" in words:
        return "yes", "says yes"
    if not (words & _words(question)) - _FUNCTION_WORDS:
        return None, "says neither yes nor no"
    denied = any(word.endswith(("n't", "n’t")) for word in words)
    return ("no", "denies it") if denied else ("yes", "states it")


@lru_cache(2**15)
def question_keys(prompt: str) -> frozenset[str]:
    """The forms of a question in a prompt: the words of each line, and of its part up to a `?`.

    Two prompts with a form in common hold the same question: instructions around it, the place of the image, case,
    articles and marks make no difference.
    """
    lines = prompt.replace("<image>", "\n").splitlines()
    parts = [form for line in lines for form in (_INSTRUCTION.sub("", line), line.rpartition("?")[0])]
    return frozenset(key for part in parts if (key := " ".join(_key_words(part))))


def image_key(name: str | int) -> str:
    """What the names of an image in several files share: `val2014/COCO_val2014_000000000042.jpg` is `42`."""
    stem = PurePath(str(name)).stem
    number = _COCO.fullmatch(stem)
    return number[1] if number else stem


def image_folder(setting: Setting) -> Path:
    """Where image paths start: `--images`, or where the benchmark's file is."""
    path = setting.file
    return setting.images or (path if path.is_dir() else path.parent)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DataError."""
    return reading.read_json(path, DataError)


def first_existing(paths: Iterable[Path]) -> Path:
    """The first path that exists, or the first."""
    known = list(paths)
    return next((path for path in known if os.path.exists(path)), known[0])  # noqa: PTH110  # also of impossible names


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _key_words(text: str) -> Iterator[str]:
    return (word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the"))
