"""The word lists of the filters, one a file."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def word_list(name: str) -> frozenset[str]:
    """The words of `word_lists/<name>.txt`; after a # comes a comment."""
    text = (resources.files(__package__) / "word_lists" / f"{name}.txt").read_text("utf-8")
    return frozenset(word for line in text.splitlines() for word in line.partition("#")[0].split())
