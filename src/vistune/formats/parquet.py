"""Parquet: a file, or a folder of files with the same columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import require
from vistune.formats import Location, OnError, Row, formats
from vistune.formats._table import Table, load_with_datasets, table_errors
from vistune.reading import WRONG_TYPE

_BATCH = 1_000


@formats.register("parquet")
class ParquetFiles(Table):
    """The rows of parquet files.

    A scan without images reads the columns of texts and numbers straight from the files. For all else `datasets`
    keeps an uncompressed copy in its cache, where any row is quickly found.
    """

    options: ClassVar[tuple[str, ...]] = ("split",)

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._parquet = require("pyarrow.parquet", "data", "reading parquet", where=location.path)
        self._files = [file for file in _files(location) if self._row_count(file)]
        if not self._files:
            raise location.error("there are no rows in it", where=location.path, fix="name a file with rows")

    @staticmethod
    def fits(path: str) -> bool:
        return path.lower().endswith(".parquet") or any(Path(path).glob("*.parquet"))

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:
        return super().scan(on_error, images=images) if images else self._texts()

    def load(self) -> Any:
        files = [str(file) for file in self._files]
        return load_with_datasets(lambda datasets: datasets.Dataset.from_parquet(files), self._location)

    def _texts(self) -> Iterator[Row]:
        start = 0
        for path in self._files:
            with table_errors(self._location), self._parquet.ParquetFile(path) as file:
                leaves = [file.schema.column(number) for number in range(len(file.schema))]
                texts = [leaf.path for leaf in leaves if not _binary(leaf)]
                for batch in file.iter_batches(_BATCH, columns=texts):
                    yield from (self._row(values, start + n) for n, values in enumerate(batch.to_pylist()))
                    start += len(batch)

    def _row_count(self, file: Path) -> int:
        """Raises the location's error for what is not a whole parquet file."""
        from pyarrow import ArrowException  # type: ignore[import-untyped]

        try:
            with self._location.open(file) as opened:
                return int(self._parquet.read_metadata(opened).num_rows)
        except (ArrowException, *WRONG_TYPE) as error:
            what = f"not a whole parquet file: {error}"
            raise self._location.error(what, where=str(file), fix="copy it again") from None


def _files(location: Location) -> list[Path]:
    """The files to read: those of the split, if one is named."""
    path, split = Path(location.path), location.split
    if not path.is_dir():
        if split is not None:
            raise location.error("a single file has no splits", where=location.path, fix="remove the key 'split'")
        return [path]
    files = sorted(path.glob("*.parquet"))
    chosen = [file for file in files if split is None or file.stem == split or file.stem.startswith(f"{split}-")]
    if not chosen:
        fix = f"there are {', '.join(file.name for file in files[:5])} …"
        raise location.error(f"there is no split '{split}'", where=location.path, fix=fix)
    return chosen


def _binary(leaf: Any) -> bool:
    """Whether a column holds bytes that are not text, like an image's."""
    return str(leaf.physical_type) == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
