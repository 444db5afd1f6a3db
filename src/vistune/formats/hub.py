"""A data set of the Hugging Face hub, `hub:owner/name`, through 🤗 datasets and its cache."""

from __future__ import annotations

from typing import Any, ClassVar

from vistune.formats import formats
from vistune.formats._table import Table

PREFIX = "hub:"


@formats.register("hub")
class HubDataset(Table):
    """The rows of one split, downloaded once; whatever `load_dataset` can load."""

    options: ClassVar[tuple[str, ...]] = ("split", "subset")

    @staticmethod
    def fits(path: str) -> bool:
        """By the prefix: a mistyped path is never looked for on the hub."""
        return path.startswith(PREFIX)

    def _load(self, datasets: Any) -> Any:
        name = self._location.path.removeprefix(PREFIX)
        return datasets.load_dataset(name, self._location.subset, split=self._location.split or "train")
