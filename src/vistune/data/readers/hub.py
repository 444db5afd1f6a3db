"""A data set of the Hugging Face hub, `hub:owner/name`, through 🤗 datasets and its cache."""

from __future__ import annotations

from typing import ClassVar

from vistune.data.arrow import Table, load_with_datasets
from vistune.data.readers import readers
from vistune.recipe.training import DataRecipe

_PREFIX = "hub:"


@readers.register("hub")
class Hub(Table):
    """The rows of one split, downloaded once; whatever `load_dataset` can load."""

    chooses: ClassVar[tuple[str, ...]] = ("split", "subset")

    def __init__(self, data: DataRecipe) -> None:
        name, split = data.path.removeprefix(_PREFIX), data.split or "train"
        rows = load_with_datasets(lambda datasets: datasets.load_dataset(name, data.subset, split=split), data.label())
        super().__init__(rows, data.label())

    @staticmethod
    def reads(path: str) -> bool:
        """By the prefix: a mistyped path is never looked for on the hub."""
        return path.startswith(_PREFIX)
