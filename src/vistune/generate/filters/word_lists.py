"""The word lists of the filters, one a file."""

from __future__ import annotations

from vistune import resources


def word_list(name: str) -> frozenset[str]:
    """The words of `word_lists/<name>.txt`."""
    return resources.word_list("vistune.generate.filters", f"word_lists/{name}.txt")
