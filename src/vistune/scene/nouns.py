"""The names that objects go by in English texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from vistune.resources import load_yaml
from vistune.scene.english import plural


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Other names of COCO's 80 categories (`synonyms.yaml`, as in CHAIR); under "" what names no object."""
    return {category: tuple(names) for category, names in load_yaml("vistune.scene", "synonyms.yaml").items()}


def plain(text: str) -> str:
    """Lower case, without hyphens, single spaced."""
    return " ".join(re.sub(r"[-_/]", " ", text.lower()).split())


def forms(*names: str) -> set[str]:
    """Singular and plural of the names, plain."""
    return {form for name in map(plain, names) if name for form in (name, plural(name))}
