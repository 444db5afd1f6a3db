"""A data set of 🤗 datasets that `save_to_disk` wrote: memory-mapped, nothing is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vistune.data.arrow import Table, load_with_datasets
from vistune.data.readers import readers
from vistune.errors import DataError, did_you_mean
from vistune.recipe.training import DataRecipe


@readers.register("saved")
class Saved(Table):
    """The rows of a saved data set, or of one split of several."""

    chooses: ClassVar[tuple[str, ...]] = ("split",)

    def __init__(self, data: DataRecipe) -> None:
        super().__init__(load_with_datasets(lambda datasets: _load(datasets, data), data.path), data.label())

    @staticmethod
    def reads(path: str) -> bool:
        """By the files that `save_to_disk` writes."""
        return any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _load(datasets: Any, data: DataRecipe) -> Any:
    found = datasets.load_from_disk(data.path)
    if not isinstance(found, dict):
        return found
    split = data.split or "train"
    if split not in found:
        raise DataError(f"there is no split '{split}'", where=data.path, fix=did_you_mean(split, found))
    return found[split]
