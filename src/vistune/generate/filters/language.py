"""Answers in another language than the requested one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache

from vistune.generate.filters.sample import Sample
from vistune.resources import load_yaml
from vistune.scene.english import words_of

_LEAST = 6
"""Words of all answers together from which their language is judged; letters, where words are not spaced."""
_CLEAR = 0.12
"""Share of the words that are another language's most frequent ones from which it is that language."""
_LETTER = re.compile(r"[^\W\d_]")


def wrong_language(sample: Sample) -> bool:
    """The answers are in another script or language than the kind's; names and foreign words within are fine."""
    text = " ".join(answer.unquoted for answer in sample.answers)
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
