"""Texts that a regular expression matches."""

from __future__ import annotations

import random
import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any


def matching_text(pattern: re.Pattern[str], random_: random.Random) -> str:
    """A text that a pattern matches, drawn at random; what it looks for around its match is not seen to."""
    return _drawn(_parser.parse(pattern.pattern, pattern.flags), random_)


def _drawn(parsed: Any, random_: random.Random) -> str:
    text = ""
    for operation, value in parsed:
        name = str(operation)
        if name == "LITERAL":
            text += chr(value)
        elif name == "NOT_LITERAL":
            text += "x"
        elif name == "BRANCH":
            text += _drawn(random_.choice(value[1]), random_)
        elif name == "SUBPATTERN":
            text += _drawn(value[-1], random_)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, repeated = value
            text += "".join(_drawn(repeated, random_) for _ in range(random_.randint(least, min(most, least + 2))))
        elif name == "IN":
            text += _member(random_.choice(value), random_)
    return text


def _member(choice: Any, random_: random.Random) -> str:
    name, value = str(choice[0]), choice[1]
    if name == "LITERAL":
        return chr(value)
    if name == "RANGE":
        return chr(random_.randint(*value))
    return {"CATEGORY_WORD": "x", "CATEGORY_DIGIT": "7"}.get(str(value), " ")
