"""The lengths of published data, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml


def load_references() -> Mapping[str, Any]:
    """`source` (a name) and `kinds`: for some kinds `samples`, `question_words` and `words`; see references.yaml."""
    text = resources.files("vistune.generate.quality").joinpath("references.yaml").read_text("utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded
