"""A data set of the Hugging Face hub, `hub:owner/name`, through 🤗 datasets and its cache."""

from __future__ import annotations

from typing import Any, ClassVar

from vistune.formats import Location, formats
from vistune.formats._table import Table, load_with_datasets

PREFIX = "hub:"


@formats.register("hub")
class HubDataset(Table):
    """The rows of one split, downloaded once; whatever `load_dataset` can load."""

    options: ClassVar[tuple[str, ...]] = ("split", "subset")

    @staticmethod
    def fits(path: str) -> bool:
        """By the prefix: a mistyped path is never looked for on the hub."""
        return path.startswith(PREFIX)

    def _load(self) -> Any:
        return load_split(self._location)


def load_split(location: Location, *, streaming: bool = False) -> Any:
    """A split (by default train) of a data set of the hub, or of a folder that `datasets.load_dataset` loads.

    Raises MissingPackageError without the package `datasets`, `location.error` if it fails.
    """
    name, split = location.path.removeprefix(PREFIX), location.split or "train"
    return load_with_datasets(
        lambda datasets: datasets.load_dataset(name, location.subset, split=split, streaming=streaming), location
    )
