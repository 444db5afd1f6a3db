"""Annotators' texts that aim at the teacher instead of telling about an image, and what such texts lead to.

A context keeps each text on one line, so none can end a part (`vistune.context`). But a teacher may still obey one, or
copy a frame out of it. Such an image is quarantined before anybody is asked; and no reply is accepted that repeats the
system prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import cache
from importlib import resources

import yaml

from vistune.context import Part, one_line
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
    return tuple(code for code in _patterns() if any(_patterns()[code].search(_plain(text)) for text in texts))


def prompt_leak(system: str, turns: Iterable[Turn]) -> bool:
    """Whether a turn repeats eight words in a row of the system prompt."""
    runs = _runs_of(system)
    return any(not runs.isdisjoint(_runs(turn.text)) for turn in turns)


def _plain(text: str) -> str:
    """The text as a reader sees it: one case, one width, nothing invisible."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return one_line(text).lower()


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    text = resources.files("vistune.generate").joinpath("hostile.yaml").read_text("utf-8")
    return {f"hostile_{code}": re.compile("|".join(lines)) for code, lines in yaml.safe_load(text).items()}


@cache
def _runs_of(system: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_runs(system))


def _runs(text: str) -> Iterable[tuple[str, ...]]:
    words = _WORD.findall(_plain(text))
    return zip(*(words[start:] for start in range(_RUN)), strict=False)
