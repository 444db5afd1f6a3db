"""Look-up by exact name of the things that come in kinds: an entry is a file of that name in one package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from vistune.errors import VistuneError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """The entries of one kind: each in a module of `package` of its name; modules named `_…` are helpers.

    `get` imports the entry's own module only, `names` all of them.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters an object under `name`. Raises ValueError for a second entry of that name."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"there are two entries for {self.kind} '{name}'")
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """The entry of exactly that name. Raises VistuneError, with a suggestion, for an unknown one."""
        if name not in self._entries:
            self._import(name)
        if name not in self._entries and name not in (known := self.names()):
            raise VistuneError(f"unknown {self.kind} '{name}'", fix=did_you_mean(name, known))
        return self._entries[name]

    def names(self) -> list[str]:
        """The names of all entries, sorted."""
        self._import()
        return sorted(self._entries)

    def _import(self, *names: str) -> None:
        """Import the modules of these names; all of them without any."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            if not module.name.startswith("_") and (not names or module.name in names):
                importlib.import_module(f"{self.package}.{module.name}")
