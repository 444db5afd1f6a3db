"""The language that a teacher is told to write in."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from vistune.errors import VistuneError, did_you_mean
from vistune.resources import load_yaml

ENGLISH = "en"
UNSPACED = ("ja", "th", "zh")
"""Languages without spaces between words, whose texts cannot be said to have too few."""


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


def prompts() -> Traversable:
    """The folder of our prompt files."""
    return resources.files("vistune.generate") / "prompts"


def _languages() -> dict[str, str]:
    return dict(load_yaml("vistune.generate", "prompts/languages.yaml"))
