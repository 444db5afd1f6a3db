"""English for the names of objects and small numbers: words of a text, plurals, articles, number words, lists.

The rules of plurals and articles are those of the package inflect; `nouns.yaml` has what these do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from vistune.resources import load_yaml

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = r"[^\W_]+(?:'[^\W_]+)?"
_WORDS = re.compile(_WORD)
_TOKENS = re.compile(rf"{_WORD}|[.!?;,:()\"\u2013\u2014]")
_LAST = re.compile(r"(.*[\s_-])?(\S+)", re.DOTALL)
_PHRASE = re.compile(r"(?i)(\S+)((?: | ?-)(?:of|in|at|on|with|for|and)(?:-| ).+)", re.DOTALL)
"""A noun that something follows: glass of wine, mother-in-law."""
_SPELLED_AN = frozenset("aefhilmnorsx")
"""Letters whose names begin with a vowel."""
_GROUPS = ("pair of", "piece of", "area of", "portion of", "set of")


def words_of(text: str) -> list[str]:
    """The words of a text in their order: letters and digits, with what follows an apostrophe (`dog's`)."""
    return _WORDS.findall(text)


def tokens_of(text: str) -> list[str]:
    """The words of a text, and the punctuation marks that separate them."""
    return _TOKENS.findall(text)


def plain(name: str) -> str:
    """A name in lower case with single spaces for everything between its words: `T-Shirt` -> `t shirt`."""
    return " ".join(words_of(name.lower()))


def well_formed(text: str) -> str:
    """The text with `?` for each lone surrogate, which JSON can encode and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def singular(name: str) -> str:
    """The name of one such object: `Platelets` -> `Platelet`, `scissors` -> `pair of scissors`, `dog` as it is."""
    return _forms(name)[0]


def plural(name: str) -> str:
    """The name of several: `wine glass` -> `wine glasses`, `RBC` -> `RBCs`, `scissors` -> `pairs of scissors`."""
    return _forms(name)[1]


def with_article(name: str) -> str:
    """One such object: `a dog`, `an hour`, `an RBC`, `a pair of scissors`, of `platelets` `a platelet`."""
    one = singular(name)
    return f"{_article(one)} {one}"


def number(count: int) -> str:
    """A count as a word up to ten, in digits beyond."""
    return NUMBERS[count] if 0 <= count < len(NUMBERS) else str(count)


def counted(name: str, count: int) -> str:
    """`a dog`, `two dogs`, `two pairs of scissors`."""
    return with_article(name) if count == 1 else f"{number(count)} {plural(name)}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


@lru_cache(maxsize=1 << 14)
def _forms(name: str) -> tuple[str, str]:
    """The singular and the plural of a noun or noun phrase."""
    if not (last := _LAST.fullmatch(name.strip())):
        return name, name
    if phrase := _PHRASE.fullmatch(name):
        irregular = _nouns("irregular").get(name.lower())
        return name, irregular or _forms(phrase[1])[1] + phrase[2]
    before, noun = last[1] or "", last[2]
    for group in _GROUPS:
        if noun.lower() in _nouns(group):
            return f"{group} {name}", f"{group.replace(' ', 's ')} {name}"
    if member := _nouns("members").get(noun.lower()):
        return _forms(before + member)
    one, several = _noun_forms(noun)
    if irregular := _nouns("irregular").get(name.lower()):
        return name, name[0] + irregular[1:]
    return before + one, before + several


def _noun_forms(noun: str) -> tuple[str, str]:
    low = noun.lower()
    if low in _nouns("unchanged"):
        return noun, noun
    if irregular := _nouns("irregular").get(low):
        return noun, noun[0] + irregular[1:]
    if several := re.fullmatch(r"([A-Z]{2,})s|([B-DF-HJ-NP-TV-XZ]{3,})S", noun):
        return several[1] or several[2], noun  # RBCs, RBCS
    if noun.isupper() and _is_spelled(noun):
        return noun, f"{noun}s"
    if (one := _singular(low)) is not None:
        return _like(noun, one), noun
    if low.endswith("man"):
        return noun, _like(noun, f"{low[:-2]}en")
    if re.search(r"[^aeiou]o$", low) and low not in _nouns("oes"):
        return noun, _like(noun, f"{low}s")
    return noun, _like(noun, _engine().plural_noun(low) or f"{low}s")


def _singular(noun: str) -> str | None:
    """The singular of a plural; None for a noun that is none: inflect takes a bus for several bu."""
    if noun in _nouns("singular in s") or noun.endswith(("ss", "us")) or len(noun) < 3:
        return None
    one = _engine().singular_noun(noun)
    return str(one) if one and one != noun and noun in (f"{one}s", _engine().plural_noun(one)) else None


def _like(noun: str, form: str) -> str:
    """The form with the capitals of the noun."""
    if noun.isupper():
        return form.upper()
    return noun[0] + form[1:] if form[:1] == noun[:1].lower() else form


def _article(noun: str) -> str:
    first = re.split(r"[\s-]", noun, maxsplit=1)[0]
    if first[:1].isdigit():
        return "an" if re.match(r"8|1[18](?!\d)", first) else "a"
    if _is_spelled(first):
        return "an" if first[0].lower() in _SPELLED_AN else "a"
    return str(_engine().a(noun.lower())).partition(" ")[0]


def _is_spelled(word: str) -> bool:
    """Whether a word is read letter by letter: `RBC`, `tv`, `SUV`."""
    letters = re.sub(r"[^a-z]", "", word.lower().removesuffix("s") if word[-1:] == "s" else word.lower())
    return bool(letters) and (letters in _nouns("acronyms") or not re.search("[aeiouy]", letters))


@cache
def _nouns(name: str) -> Mapping[str, str]:
    """One group of nouns.yaml: the irregular nouns with their plurals, of the others the nouns alone."""
    group: Any = load_yaml("vistune.scene", "nouns.yaml")[name]
    return dict(group) if isinstance(group, dict) else dict.fromkeys(group.split(), "")


@cache
def _engine() -> Any:
    import inflect  # takes 0.2 s

    return inflect.engine()
