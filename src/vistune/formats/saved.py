"""A data set of 🤗 datasets that `save_to_disk` wrote: memory-mapped, nothing is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import did_you_mean
from vistune.formats import formats
from vistune.formats._table import Table, load_with_datasets, table_errors

_FILES = ("state.json", "dataset_dict.json")


@formats.register("saved")
class SavedDataset(Table):
    """The rows of a saved data set, or of one split of several (by default train)."""

    options: ClassVar[tuple[str, ...]] = ("split",)

    @staticmethod
    def fits(path: str) -> bool:
        return any((Path(path) / name).is_file() for name in _FILES)

    def load(self) -> Any:
        location, split = self._location, self._location.split or "train"
        found = load_with_datasets(lambda datasets: datasets.load_from_disk(location.path), location)
        splits = found if isinstance(found, dict) else {str(found.split or "train"): found, "train": found}
        if split not in splits:
            raise location.error(f"there is no split '{split}'", where=location.path, fix=did_you_mean(split, splits))
        with table_errors(location):
            splits[split].data.validate(full=True)  # Arrow trusts offsets, and would read beyond the file
        return splits[split]
