"""Annotators' texts that aim at the teacher instead of telling about an image, and what such texts lead to.

A context keeps each text on one line, so none can end a part (`vistune.context`). But a teacher may still obey one, or
copy a frame out of it. Such an image is quarantined before anybody is asked; and no reply is accepted that repeats the
system prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cache, lru_cache

from vistune.context import Part, one_line
from vistune.own_files import load_yaml
from vistune.records import ImageRecord, Turn

_RUN = 8
"""So many words of the system prompt in a row are no chance."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_CHARACTERS = {ord("\u2018"): "'", ord("\u2019"): "'", ord("\u201c"): '"', ord("\u201d"): '"', ord("\xad"): ""}


def hostile_context(record: ImageRecord, parts: Collection[Part]) -> tuple[str, ...]:
    """Reason codes of what the texts of the shown `parts` aim at; none: they are about the image.

    `hostile_frame`: separators, roles, templates or code. `hostile_instruction`: a command to whoever writes.
    """
    texts = [*(record.captions if "captions" in parts else ())]
    texts += dict.fromkeys(box.category for box in record.boxes) if "boxes" in parts else ()
    found = {code for text in texts for code in _aims(text)}
    return tuple(code for code in _patterns() if code in found)


def prompt_leak(system: str, turns: Iterable[Turn]) -> bool:
    """Whether a turn repeats eight words in a row of the system prompt."""
    words, runs = _runs_of(system)
    return any(run in runs for turn in turns for run in _runs(turn.text, words))


def _plain(text: str) -> str:
    """The text as a reader sees it: one case, one width, nothing invisible."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return one_line(text).lower()


@lru_cache(maxsize=256)  # the kinds of an image, one after the other, show the same texts
def _aims(text: str) -> tuple[str, ...]:
    plain = _plain(text)
    return tuple(code for code, patterns in _patterns().items() if any(one.search(plain) for one in patterns))


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    """The patterns of each reason code; one by one they are searched faster than joined."""
    patterns = load_yaml("vistune.generate", "hostile.yaml")
    return {f"hostile_{code}": tuple(map(re.compile, lines)) for code, lines in patterns.items()}


@cache
def _runs_of(system: str) -> tuple[frozenset[str], frozenset[tuple[str, ...]]]:
    """The words of a prompt, and each run of them."""
    words = frozenset(_WORD.findall(_plain(system)))
    return words, frozenset(_runs(system, words))


def _runs(text: str, known: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Each run of words that are all `known`."""
    words = _WORD.findall(text.lower() if text.isascii() else _plain(text))
    length = 0
    for end, word in enumerate(words, 1):
        length = length + 1 if word in known else 0
        if length >= _RUN:
            yield tuple(words[end - _RUN : end])
