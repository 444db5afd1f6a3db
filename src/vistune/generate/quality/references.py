"""The lengths of published data, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vistune.resources import load_yaml


def load_references() -> Mapping[str, Any]:
    """`source` (a name) and `kinds`: for some kinds `samples`, `question_words` and `words`; see references.yaml."""
    loaded: Mapping[str, Any] = load_yaml("vistune.generate.quality", "references.yaml")
    return loaded
