"""The language that a teacher writes in."""

from __future__ import annotations

from vistune.errors import VistuneError, did_you_mean
from vistune.resources import load_yaml

ENGLISH = "en"
UNSPACED = ("ja", "th", "zh")
"""Languages without spaces between words: the least number of words does not apply."""


def language_code(text: str) -> str:
    """The code of a language that is given by its code or its English name. Raises VistuneError for another."""
    known = _languages()
    codes = {name.lower(): code for code, name in known.items()}
    code = codes.get(text.strip().lower(), text.strip().lower())
    if code not in known:
        fix = did_you_mean(text, [*known, *known.values()])
        raise VistuneError(f"unknown language '{text}'", fix=fix if "mean" in fix else "e.g. German, or its code de")
    return code


def language_name(code: str) -> str:
    """The English name of the language with that code."""
    return _languages()[code]


def _languages() -> dict[str, str]:
    return dict(load_yaml("vistune.generate", "prompts/languages.yaml"))
