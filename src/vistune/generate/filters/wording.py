"""Wordings that reveal the teacher: annotations, refusals, markers, talk about the dialogue, another language."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from vistune.generate.filters.sample import BOX, Sample, Text
from vistune.resources import load_yaml
from vistune.scene.english import words_of

_COORDINATES = re.compile(r"[\[(]\s*(?:x\w*\s*=\s*)?(?:[01]\.\d+\s*,|\.\d+\s*,[\s.,\d]*\b[01]\b)")
_ANSWERS_ANYWAY = re.compile(
    r"\b(?:but|however|although|though|nevertheless|still|while)\b,?(?:[ ]+[^\s.]+){4,}|[.!]\s+\w+(?:[ ]+[^\s.]+){11,}"
)
_NAME = r"(?:user|human|assistant|system|question|answer|gpt|chatgpt|ai|bot|model|instruction|response|q|a)"
_MARKER = re.compile(
    rf"""
    <image> | <\|[^|>]*\|> | </?s> | \[/?inst\] | <</?sys>> | <(?:start|end)_of_turn> | <(?:bos|eos|pad|unk)> | ={{3}}
    | </?(?:\w+:)?(?:think|thinking|reasoning)>
    | ^[ \t>*]*\#{{3}} | ^[ \t>*_\#\[-]*{_NAME}(?:[ ]?\#?\d{{1,2}})?[ \t*_\]]*:
    | [.?!"')*][ ]+\**(?:user|human|assistant|question|answer)\**:[ ]   # the next turn within a line
    """,
    re.VERBOSE | re.MULTILINE,
)
_STATES = re.compile(
    r"(?:yes|no|sure|certainly|there (?:is|are)"
    r"|(?:the|this|a|an) [^?]*?\b(?:is|are|shows?|features?|depicts?|has|have)\b)"
)
_ASKS = re.compile(r"\b(?:what|which|who|where|when|why|how|tell|describe|explain|can|could|please|give|list|name)\b")
_ASKING = re.compile(
    r"(?:(?:can|could|would|do|does|did|is|are) (?:you|there|the|it|this|that|they)|what|where|who|which|how|why)\b"
)

_LEAST = 6
"""Words of all answers together from which their language is judged; letters, where words are not spaced."""
_CLEAR = 0.12
"""Share of the words that are another language's most frequent ones from which it is that language."""
_LETTER = re.compile(r"[^\W\d_]")


def leak(sample: Sample) -> bool:
    """A text reveals that the teacher saw captions and boxes, not the image."""
    if sample.kind.has_boxes:  # the questions are about boxes
        return any(_has("leak", Text(BOX.sub("", answer.plain))) for answer in sample.answers)
    return any(_has("leak", text) or _COORDINATES.search(text.unquoted) for text in sample.texts)


def refusal(sample: Sample) -> bool:
    """An answer declines to answer, or only says that the image does not show it."""
    return any(
        _has("declined", text) or (_has("unanswered", text) and not _ANSWERS_ANYWAY.search(text.plain))
        for text in sample.answers
    )


def role_marker(sample: Sample) -> bool:
    """A text contains a marker of an image, a role or the end of a block in a chat template or in the text format."""
    return any(_MARKER.search(text.plain) for text in sample.texts)


def has_role_marker(text: str) -> bool:
    """Whether a text contains such a marker."""
    return _MARKER.search(text.lower()) is not None


def role_confusion(sample: Sample) -> bool:
    """A text talks about the dialogue instead of taking part, a user answers, or an assistant asks."""
    if any(_has("confused", text) for text in sample.texts):
        return True
    return any(_is_statement(question) or _is_question(answer) for question, answer in sample.exchanges)


def _is_statement(text: Text) -> bool:
    plain = text.plain.strip()
    return "?" not in plain and len(text.words) > 3 and bool(_STATES.match(plain)) and not _ASKS.search(plain)


def _is_question(text: Text) -> bool:
    plain = text.plain.strip()
    return plain.endswith("?") and not re.search(r"[.!:]\s", plain) and bool(_ASKING.match(plain))


def _has(name: str, text: Text) -> bool:
    return _phrases(name).search(text.unquoted) is not None


@cache
def _phrases(name: str) -> re.Pattern[str]:
    """The patterns of that name in `phrases.yaml` as one.

    They share one word boundary, so that `re` tries them at the beginnings of words only and drops most by their first
    letter: a tenth of the time that one search for each pattern takes.
    """
    loaded: Any = load_yaml("vistune.generate.filters", "phrases.yaml")
    source = "|".join(loaded[name])
    for part, pattern in loaded["parts"].items():
        source = source.replace(f"{{{part}}}", pattern)
    return re.compile(rf"\b(?:{source})", re.VERBOSE)


def wrong_language(sample: Sample) -> bool:
    """What the teacher writes is in another script or language than the kind's; names and foreign words are fine."""
    written = sample.answers if sample.kind.questions else sample.texts
    text = " ".join(one.unquoted for one in written)
    script = _script(text)
    expected = _knowledge()["scripts"].get(sample.kind.language, "LATIN").split()
    if script and script not in expected:
        return True
    words = words_of(text)
    if script != "LATIN" or len(words) < _LEAST:
        return False
    hits = {code: sum(word in frequent for word in words) for code, frequent in _frequent().items()}
    own = hits.pop(sample.kind.language, 0)
    most = max(hits.values())
    return most >= max(3, _CLEAR * len(words)) and most > 1.5 * own


def _script(text: str) -> str:
    """The script of most letters, by the first word of their Unicode names; empty for too few letters."""
    letters = _LETTER.findall(text[:2_000])
    if len(letters) < _LEAST:
        return ""
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > len(letters) / 10:
        return "HIRAGANA"  # Japanese, however many Chinese characters it has
    return scripts.most_common(1)[0][0]


@cache
def _frequent() -> Mapping[str, frozenset[str]]:
    """The most frequent words of languages in Latin script."""
    return {code: frozenset(words.split()) for code, words in _knowledge()["frequent"].items()}


@cache
def _knowledge() -> Mapping[str, Mapping[str, str]]:
    return dict(load_yaml("vistune.generate.filters", "languages.yaml"))
