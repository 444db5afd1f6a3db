"""Which objects a text mentions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vistune.records import ImageRecord
from vistune.scene.nouns import forms, plain, synonyms


def vocabulary(records: Iterable[ImageRecord]) -> tuple[str, ...]:
    """The categories that the records' boxes name, sorted."""
    return tuple(sorted({box.category for record in records for box in record.boxes}))


class MentionFinder:
    """Finds mentions of `categories` in English text.

    By name, plural and synonym (`synonyms.yaml`, as in CHAIR), the longest name first: a "hot dog" is no dog, even
    where the data has no hot dogs. A category's own name is never read as another's synonym.
    """

    def __init__(self, categories: Iterable[str]) -> None:
        self.categories = tuple(categories)
        names = {form: category for category, words in synonyms().items() for form in forms(category, *words)}
        names |= {form: category for category in self.categories for form in forms(category)}
        self._names: Mapping[str, str] = names
        longest_first = sorted(names, key=len, reverse=True)
        self._pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")

    def find(self, text: str) -> list[str]:
        """The category of every mention, in the text's order; an object told twice is there twice."""
        found = [self._names[match.group()] for match in self._pattern.finditer(plain(text))]
        return [category for category in found if category in self.categories]
