"""The names of categories as people read them, once for all sources, and the user's own table of new names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.reading import read_yaml
from vistune.resources import load_yaml

_HUMPS = re.compile(r"(?:[A-Z][a-z]+){2,}")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SENSE = re.compile(r"\s*\([^()]*\)\s*$")  # LVIS: `bat_(animal)`
_LONGEST_ACRONYM = 4


def readable(name: str) -> str:
    """`traffic_light` -> traffic light, `Dog` -> dog, `TrafficLight` -> traffic light, `diningtable` -> dining table.

    Acronyms stay as they are: `RBC`. So does what mixes letters and figures: `B747`.
    """
    words = " ".join(name.replace("_", " ").split())
    words = _SENSE.sub("", words) or words
    return " ".join(spelled for word in words.split() for spelled in _word(word).split())


def _word(word: str) -> str:
    if _HUMPS.fullmatch(word):
        word = _HUMP.sub(" ", word)
    lower = word.lower()
    if apart := _words()["compounds"].get(lower):
        return str(apart)
    if lower in _words()["proper"]:
        return word.capitalize()
    if word.isalpha() and word.isupper():
        return lower if len(word) > _LONGEST_ACRONYM or lower in _words()["short"] else word
    return " ".join("-".join(map(_uncapitalized, part.split("-"))) for part in word.split())


def _uncapitalized(part: str) -> str:
    capitalized = len(part) > 1 and part[0].isupper() and part[1:].islower()
    return part.lower() if capitalized else part


@cache
def _words() -> dict[str, Any]:
    return dict(load_yaml("vistune.sources", "category_names.yaml"))


class CategoryNames:
    """What each name in an annotation file becomes: the new name in `table`, else the name made readable.

    In the table a name stands as in the annotations or as it is readable. None leaves the category's boxes out.
    """

    def __init__(self, table: dict[str, str | None] | None = None) -> None:
        self._table = table or {}
        self._known: dict[str, str | None] = {}
        self._used: set[str] = set()

    def __call__(self, name: str) -> str | None:
        if name not in self._known:
            self._known[name] = self._new_name(name)
        return self._known[name]

    def unused(self) -> tuple[str, ...]:
        """The names in the table that no box had."""
        return tuple(name for name in self._table if name not in self._used)

    def _new_name(self, name: str) -> str | None:
        for key in (name, readable(name)):
            if key in self._table:
                self._used.add(key)
                return self._table[key]
        return readable(name)


def read_table(path: Path) -> dict[str, str | None]:
    """The table of new names in a YAML or JSON file, `old: new`; nothing for `new` leaves the category out.

    Raises AnnotationError.
    """
    table = read_yaml(path, AnnotationError)
    if not isinstance(table, dict):
        fix = "a line for each category, as in `tv_monitor: television`"
        raise AnnotationError("not a table of new names", where=str(path), fix=fix)
    return {str(old): None if new is None else " ".join(str(new).split()) or None for old, new in table.items()}
