"""How much of what is boxed in the images the accepted samples talk about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from vistune.scene.english import plural

_LETTERS = re.compile(r"[a-z0-9]+")
_SPACES = {code: " " for code in range(128) if not chr(code).isalnum()}


class Coverage:
    """Of the categories boxed in a sample's image, each once, those that its turns name.

    A category is named by its name or its plural, as whole words. Synonyms are not known ("man" for person), so the
    share is a lower bound.
    """

    def __init__(self) -> None:
        self.named = self.boxed = 0

    def add(self, categories: Iterable[str], texts: Iterable[str]) -> None:
        """Count one sample."""
        said = f" {_plain(' '.join(texts))} "
        for category in categories:
            self.boxed += 1
            self.named += any(form in said for form in _forms(category))

    def share(self) -> float | None:
        """What part is named; None where nothing is boxed."""
        return self.named / self.boxed if self.boxed else None


def _plain(text: str) -> str:
    """Its letters and digits, in lower case, with a space for what is between them."""
    return " ".join(text.lower().translate(_SPACES).split() if text.isascii() else _LETTERS.findall(text.lower()))


@lru_cache(maxsize=4_096)
def _forms(category: str) -> tuple[str, ...]:
    name = _plain(category)
    return (f" {name} ", f" {plural(name)} ") if name else ()
