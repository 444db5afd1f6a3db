"""English for the names of objects and small numbers: words of a text, plurals, articles, number words, lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_IRREGULAR = {"person": "people", "mouse": "mice", "knife": "knives", "sheep": "sheep", "skis": "skis"}
_IRREGULAR |= {"scissors": "scissors", "man": "men", "woman": "women", "child": "children", "leaf": "leaves"}
_WORD = r"[^\W_]+(?:'[^\W_]+)?"
_WORDS = re.compile(_WORD)
_TOKENS = re.compile(rf"{_WORD}|[.!?;,:()\"\u2013\u2014]")


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


def plural(noun: str) -> str:
    """The plural of a noun or noun phrase: `wine glass` -> `wine glasses`, `person` -> `people`."""
    head, _, last = noun.rpartition(" ")
    if irregular := _IRREGULAR.get(last.lower()):
        last = last[0] + irregular[1:]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}" if head else last


def with_article(noun: str) -> str:
    """`dog` -> `a dog`, `apple` -> `an apple`."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def number(count: int) -> str:
    """A count as a word up to ten, in digits beyond."""
    return NUMBERS[count] if 0 <= count < len(NUMBERS) else str(count)


def counted(noun: str, count: int) -> str:
    """`a dog`, `two dogs`."""
    return with_article(noun) if count == 1 else f"{number(count)} {plural(noun)}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
