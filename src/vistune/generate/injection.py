"""Prompt injection: annotators' texts that address the teacher instead of describing an image, and what they lead to.

A context keeps each text on one line, so none can end a part. But a teacher may still obey one, or copy a frame out of
it. Such an image is quarantined and no request is sent; a reply that repeats the system prompt is not accepted.
"""

from __future__ import annotations

import base64
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
_BEFORE_MARK = re.compile(r" (?=[,.!?;:](?: |$))|(?<=\w) (?='\w)")
_LEET, _DIGITS = re.compile(r"[a-z][013457@$]|[013457@$][a-z]"), str.maketrans("013457@$", "oieastas")
_LETTERS_APART, _JOINED = re.compile(r"\b(?:\w[ ._*-]){5,}\w\b"), re.compile(r"(?<=\w)[-_](?=\w)")
_CODE = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}|(?:[0-9A-Fa-f]{2}[ :,]?){12,}")
_NEGATION = re.compile(r"(?:do not|don't|never|avoid|refrain from|without|not) ")
_RUN = 8  # words in a row of the system prompt that make a leak


def hostile_context(record: ImageRecord, parts: Collection[Part]) -> tuple[str, ...]:
    """Reason codes of what the texts of the shown `parts` aim at; none: they describe the image.

    `hostile_frame`: separators, roles, templates or code. `hostile_instruction`: a command to the teacher.
    """
    texts = [*(record.captions if "captions" in parts else ())]
    texts += dict.fromkeys(box.category for box in record.boxes) if "boxes" in parts else ()
    found = {code for text in texts for code in aims(text)}
    return tuple(sorted(found))


@lru_cache(maxsize=1 << 14)  # each kind and each pass over the plan looks at the same texts again
def aims(text: str) -> tuple[str, ...]:
    """Reason codes of what one annotator's text aims at; see `hostile_context`."""
    versions = tuple(_versions(text))
    found = {
        "hostile_frame": any(one.search(version) for version in versions for one in _patterns("frame")),
        "hostile_instruction": _hidden(text) or any(map(_instructs, versions)),
    }
    return tuple(code for code, is_found in found.items() if is_found)


def prompt_leak(sample: Sample) -> bool:
    """Whether a turn repeats eight words in a row of the system prompt."""
    runs = _runs(sample.kind.system)
    return any(not runs.isdisjoint(_in_a_row(_visible_words(text))) for text in sample.texts)


def _visible_words(text: Text) -> list[str]:
    return text.words if text.plain.isascii() else words_of(_plain(text.plain))


def _plain(text: str) -> str:
    """The text as a reader sees it: one case, one width, nothing invisible, no space before a mark."""
    text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return _BEFORE_MARK.sub("", one_line(text).lower())


def _versions(text: str) -> Iterator[str]:
    """The text as it is, and what it may hide: digits for letters, letters apart, words joined by hyphens."""
    plain = _plain(text)
    yield plain
    if _LEET.search(plain):
        yield plain.translate(_DIGITS)
    if _LETTERS_APART.search(plain):
        yield re.sub(r"[ ._*-]", "", plain)
    if _JOINED.search(plain):
        yield _JOINED.sub(" ", plain)


def _hidden(text: str) -> bool:
    """Whether hexadecimal digits or base64 in a text stand for words, as no caption has it."""
    return any(len(decoded.split()) > 2 for code in _CODE.findall(text) for decoded in _decoded(code))


def _decoded(code: str) -> Iterator[str]:
    for decode in (bytes.fromhex, lambda text: base64.b64decode(text + "=" * (-len(text) % 4))):
        try:
            text = decode(re.sub(r"[ :,=]", "", code)).decode("ascii")
        except ValueError:
            continue
        if text.isprintable():
            yield text


def _instructs(text: str) -> bool:
    """Whether a text tells its reader what to write, other than by what is written on something in the image."""
    if any(one.search(text) for name in ("machine", "foreign") for one in _patterns(name)):
        return True
    return any(not _carried(text, *span) for span in _commands(text))


def _commands(text: str) -> Iterator[tuple[int, int]]:
    """Where a text has a command about the text to be written."""
    for pattern in _patterns("heads"):
        for head in pattern.finditer(text):
            negated = _NEGATION.match(text, head.end())
            places = [head.end(), *([negated.end()] if negated else [])]
            rules = [*_patterns("commands"), *(_patterns("prohibitions") if negated else ())]
            found = (rule.match(text, place) for place in places for rule in rules)
            yield from (one.span() for one in found if one)
    for rule in _patterns("text"):
        yield from (found.span() for found in rule.finditer(text))


def _carried(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a place says that a sign, a shirt or the like has this text."""
    first = max(text.rfind(mark, 0, start + 1) for mark in ".!?") + 1
    last = min((at for mark in ".!?" if (at := text.find(mark, end)) >= 0), default=len(text))
    return any(one.search(text, first, last) for one in _patterns("carried"))


@cache
def _patterns(name: str) -> tuple[re.Pattern[str], ...]:
    """The patterns of that name; many short ones are searched faster than one alternation of them."""
    loaded = load_yaml("vistune.generate", "injection.yaml")
    parts = {f"{{{part}}}": text.replace(" |", "|") for part, text in loaded["parts"].items()}
    known = re.compile("|".join(map(re.escape, parts)))
    texts = loaded[name]
    for _ in range(2):  # a part may have parts
        texts = [known.sub(lambda part: parts[part[0]], text) for text in texts]
    return tuple(map(re.compile, texts))


@cache
def _runs(system: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_in_a_row(words_of(_plain(system))))


def _in_a_row(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(_RUN)), strict=False)
