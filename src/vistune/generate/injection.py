"""Prompt injection: annotators' texts that address the teacher instead of describing an image, and what they lead to.

A context keeps each text on one line, so none can end a part. But a teacher may still obey one, or copy a frame out of
it. Such an image is quarantined and no request is sent; a reply that repeats the system prompt is not accepted.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache

from vistune.generate.filters import Sample
from vistune.generate.filters.sample import Text
from vistune.records import ImageRecord
from vistune.resources import load_yaml
from vistune.scene.context import Part, one_line
from vistune.scene.english import words_of

_CHARACTERS = {ord("\u2018"): "'", ord("\u2019"): "'", ord("\u201c"): '"', ord("\u201d"): '"', ord("\xad"): ""}
_RUN = 8  # words in a row of the system prompt that make a leak


def hostile_context(record: ImageRecord, parts: Collection[Part]) -> tuple[str, ...]:
    """Reason codes of what the texts of the shown `parts` aim at; none: they describe the image.

    `hostile_frame`: separators, roles, templates or code. `hostile_instruction`: a command to the teacher.
    """
    texts = [*(record.captions if "captions" in parts else ())]
    texts += dict.fromkeys(box.category for box in record.boxes) if "boxes" in parts else ()
    found = {code for text in texts for code in aims(text)}
    return tuple(code for code in _patterns() if code in found)


@lru_cache(maxsize=1 << 14)  # each kind and each pass over the plan looks at the same texts again
def aims(text: str) -> tuple[str, ...]:
    """Reason codes of what one annotator's text aims at; see `hostile_context`."""
    plain = _plain(text)
    return tuple(code for code, patterns in _patterns().items() if any(one.search(plain) for one in patterns))


def prompt_leak(sample: Sample) -> bool:
    """Whether a turn repeats eight words in a row of the system prompt."""
    runs = _runs(sample.kind.system)
    return any(not runs.isdisjoint(_in_a_row(_visible_words(text))) for text in sample.texts)


def _visible_words(text: Text) -> list[str]:
    return text.words if text.plain.isascii() else words_of(_plain(text.plain))


def _plain(text: str) -> str:
    """The text as a reader sees it: one case, one width, nothing invisible."""
    text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return one_line(text).lower()


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    """The patterns of each reason code; many short ones are searched faster than one alternation of them."""
    loaded = load_yaml("vistune.generate", "injection.yaml")
    parts = {f"{{{name}}}": pattern.replace(" |", "|") for name, pattern in loaded["parts"].items()}
    known = re.compile("|".join(map(re.escape, parts)))
    return {
        f"hostile_{code}": tuple(re.compile(known.sub(lambda name: parts[name[0]], one)) for one in loaded[code])
        for code in ("frame", "instruction")
    }


@cache
def _runs(system: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_in_a_row(words_of(_plain(system))))


def _in_a_row(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(_RUN)), strict=False)
