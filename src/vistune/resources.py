"""The package's own files: word lists, settings, prompts, templates."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml


def folder(package: str, name: str = "") -> Path:
    """A folder of the package's files: that of the modules of `package`, or one in it."""
    return Path(str(resources.files(package).joinpath(name)))


def read_text(package: str, name: str) -> str:
    """The content of a text file beside the modules of `package`."""
    return folder(package, name).read_text("utf-8")


def load_yaml(package: str, name: str) -> Any:
    """The content of a YAML file beside the modules of `package`."""
    return yaml.load(read_text(package, name), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def word_list(package: str, name: str) -> frozenset[str]:
    """The words of a text file beside the modules of `package`; after a # comes a comment."""
    return frozenset(word for line in read_text(package, name).splitlines() for word in line.partition("#")[0].split())
