"""A data set of the Hugging Face hub, `hub:owner/name`, through 🤗 datasets and its cache."""

from __future__ import annotations

from typing import Any, ClassVar

from vistune.formats import formats
from vistune.formats._table import Table, load_with_datasets

PREFIX = "hub:"


@formats.register("hub")
class HubDataset(Table):
    """The rows of one split (by default train), downloaded once; whatever `load_dataset` can load, folders too."""

    options: ClassVar[tuple[str, ...]] = ("split", "subset")

    @staticmethod
    def fits(path: str) -> bool:
        """By the prefix: a mistyped path is never looked for on the hub."""
        return path.startswith(PREFIX)

    def load(self, *, streaming: bool = False) -> Any:
        location = self._location
        name, split = location.path.removeprefix(PREFIX), location.split or "train"
        return load_with_datasets(
            lambda datasets: datasets.load_dataset(name, location.subset, split=split, streaming=streaming), location
        )
