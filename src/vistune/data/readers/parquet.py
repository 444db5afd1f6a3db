"""Parquet: a file, or a folder of files with the same columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vistune.data.arrow import Table, load_with_datasets
from vistune.data.readers import read_error, readers
from vistune.errors import DataError
from vistune.recipe.training import DataRecipe


@readers.register("parquet")
class Parquet(Table):
    """The rows of parquet files. `datasets` keeps an uncompressed copy in its cache, where any row is quickly found."""

    chooses: ClassVar[tuple[str, ...]] = ("split",)

    def __init__(self, data: DataRecipe) -> None:
        def load(datasets: Any) -> Any:
            return datasets.Dataset.from_parquet(_checked(_files(data)))

        super().__init__(load_with_datasets(load, data.path), data.label())

    @staticmethod
    def reads(path: str) -> bool:
        """By the file's ending, or the folder's files."""
        return path.lower().endswith(".parquet") or any(Path(path).glob("*.parquet"))


def _files(data: DataRecipe) -> list[Path]:
    path = Path(data.path)
    if not path.is_dir():
        if data.split is not None:
            raise DataError("a single file has no splits", where=data.path, fix="remove the key 'split'")
        return [path]
    files = sorted(path.glob("*.parquet"))
    if data.split is None:
        return files
    chosen = [file for file in files if file.stem == data.split or file.stem.startswith(f"{data.split}-")]
    if not chosen:
        fix = f"there are {', '.join(file.name for file in files[:5])} …"
        raise DataError(f"there is no split '{data.split}'", where=data.path, fix=fix)
    return chosen


def _checked(files: list[Path]) -> list[str]:
    """The names of those with rows. Raises DataError that names the first one that is no whole parquet file."""
    from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped]

    chosen = []
    for file in files:
        try:
            rows = parquet.read_metadata(file).num_rows
        except FileNotFoundError as error:
            raise read_error(file, error) from None
        except (ArrowInvalid, OSError) as error:
            raise DataError(f"not a whole parquet file: {error}", where=str(file), fix="copy it again") from None
        chosen += [str(file)] * bool(rows)
    if not chosen:
        raise DataError("there are no conversations in it", where=str(files[0].parent))
    return chosen
