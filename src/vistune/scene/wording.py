"""The symbolic teacher's wordings (phrases.yaml), and the words that fill them."""

from __future__ import annotations

from functools import cache
from typing import Any

from vistune.resources import load_yaml
from vistune.scene.english import singular, with_article

_CATEGORIES = ("thing", "other", "larger", "smaller")


@cache
def phrases() -> dict[str, Any]:
    """The whole file: for each type of question its `questions` and answers."""
    return dict(load_yaml("vistune.scene", "phrases.yaml"))


def questions(kind: str) -> tuple[str, ...]:
    """The question templates of one type: existence, count, position, relation, category, neighbor …"""
    return tuple(phrases()[kind]["questions"])


@cache
def common_objects() -> tuple[str, ...]:
    """COCO's 80 categories, in its own order."""
    return tuple(name.strip() for name in phrases()["objects"].split(","))


def place(position: str) -> str:
    """A position with its preposition: `top left` -> `at the top left`."""
    preposition = {"center": "in", "left": "on", "right": "on"}.get(position, "at")
    return f"{preposition} the {position}"


def spoken(relation: str) -> str:
    """A relation in a sentence: `left of` -> `to the left of`."""
    return f"to the {relation}" if relation.endswith(" of") else relation


def fill(template: str, **words: str) -> str:
    """A template with its placeholders filled; `{A_thing}` is `{a_thing}` with a capital.

    Categories become the name of one object: of scissors a pair of scissors, of platelets a platelet.
    """
    if "thing" in words:
        words.setdefault("a_thing", with_article(words["thing"]))
    words |= {key: singular(words[key]) for key in _CATEGORIES if key in words}
    capital = {key[0].upper() + key[1:]: value[:1].upper() + value[1:] for key, value in words.items()}
    return template.format(**words, **capital)
