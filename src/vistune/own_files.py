"""The word lists and settings that are files of the package."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads ten times as fast, where PyYAML has it


def load_yaml(package: str, name: str) -> Any:
    """The content of a YAML file beside the modules of `package`."""
    text = resources.files(package).joinpath(name).read_text("utf-8")
    return yaml.load(text, _LOADER)
