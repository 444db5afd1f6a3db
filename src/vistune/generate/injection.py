"""Annotators' texts that aim at the teacher instead of telling about an image, and what such texts lead to.

A context keeps each text on one line, so none can end a part. But a teacher may still obey one, or
copy a frame out of it. Such an image is quarantined before anybody is asked; and no reply is accepted that repeats the
system prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from vistune.generate.filters import Sample
from vistune.records import ImageRecord
from vistune.resources import load_yaml
from vistune.scene.context import Part, one_line
from vistune.scene.english import words_of

_UNUSUAL = re.compile(r"[^a-z0-9 ,.'-]|-{4}|(?:\b[a-z] ){7}|gpt|jailbr")
"""A hostile text has something of this, or one of the `words` of injection.yaml."""
_SPACES = str.maketrans(",.'-", "    ")
_CHARACTERS = {ord("\u2018"): "'", ord("\u2019"): "'", ord("\u201c"): '"', ord("\u201d"): '"', ord("\xad"): ""}


def hostile_context(record: ImageRecord, parts: Collection[Part]) -> tuple[str, ...]:
    """Reason codes of what the texts of the shown `parts` aim at; none: they are about the image.

    `hostile_frame`: separators, roles, templates or code. `hostile_instruction`: a command to whoever writes.
    """
    texts = [*(record.captions if "captions" in parts else ())]
    texts += dict.fromkeys(box.category for box in record.boxes) if "boxes" in parts else ()
    found = {code for text in texts for code in aims(text)}
    return tuple(code for code in _patterns() if code in found) if found else ()


@lru_cache(maxsize=256)  # the kinds of an image, one after the other, show the same texts
def aims(text: str) -> tuple[str, ...]:
    """Reason codes of what one text of an annotator's aims at; see `hostile_context`."""
    plain = _plain(text)
    if not _UNUSUAL.search(plain) and _words().isdisjoint(plain.translate(_SPACES).split()):
        return ()  # nearly all texts
    return tuple(code for code, some in _patterns().items() if any(one.search(plain) for one in some))


def prompt_leak(sample: Sample) -> bool:
    """Whether a turn repeats eight words in a row of the system prompt."""
    fours, eights = _runs_of(sample.kind.system)
    texts = [text.words if text.plain.isascii() else words_of(_plain(text.plain)) for text in sample.texts]
    said = list(chain.from_iterable(texts))
    every_four = zip(said[::4], said[1::4], said[2::4], said[3::4], strict=False)  # eight in a row hold one of these
    if fours.isdisjoint(every_four):
        return False
    return any(not eights.isdisjoint(_in_a_row(words, 8)) for words in texts)


def _plain(text: str) -> str:
    """The text as a reader sees it: one case, one width, nothing invisible."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return one_line(text).lower()


@cache
def _words() -> frozenset[str]:
    return frozenset(_load()["words"].split())


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    """The patterns of each reason code."""
    return {f"hostile_{code}": tuple(map(re.compile, _load()[code])) for code in ("frame", "instruction")}


@cache
def _load() -> dict[str, Any]:
    return dict(load_yaml("vistune.generate", "injection.yaml"))


@cache
def _runs_of(system: str) -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """Every four words in a row of a prompt, and every eight."""
    words = words_of(_plain(system))
    return frozenset(_in_a_row(words, 4)), frozenset(_in_a_row(words, 8))


def _in_a_row(words: Sequence[str], count: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(count)), strict=False)
