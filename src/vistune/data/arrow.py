"""Records in the tables of 🤗 datasets, which are mapped into memory from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vistune.errors import DataError, MissingPackageError, VistuneError

_COLUMNS = ("id", "kind", "image", "images", "conversations", "messages")
_ROWS = 1_000


def load_with_datasets(load: Callable[[Any], Any], label: str) -> Any:
    """What `load` gets from the package `datasets`. Raises MissingPackageError without it, DataError if it fails."""
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError:
        what, fix = "reading this format needs the package datasets", "pip install 'vistune[data]'"
        raise MissingPackageError(what, where=label, fix=fix) from None
    try:
        return load(datasets)
    except VistuneError:
        raise
    except Exception as error:  # it raises what its many readers raise
        raise DataError(f"cannot be read: {error.__cause__ or error}", where=label) from error


class Table:
    """The rows of a `datasets.Dataset` as records: the columns that are known, images as they are stored."""

    def __init__(self, dataset: Any, label: str) -> None:
        columns = [name for name in _COLUMNS if name in dataset.column_names]
        if not {"conversations", "messages"} & {*columns}:
            there = f"it has the columns {', '.join(dataset.column_names)}"
            raise DataError("there is no column 'conversations' or 'messages'", where=label, fix=there)
        self._rows = dataset.select_columns(columns).with_format("arrow")
        self._label = label

    def scan(self) -> Iterator[Any]:
        """Every row once; an image's bytes are not read, one byte stands for them."""
        for start in range(0, len(self._rows), _ROWS):
            table = self._rows[start : start + _ROWS].combine_chunks()
            names = table.column_names
            columns = [_light(table.column(name).combine_chunks()).to_pylist() for name in names]
            yield from (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    def __getitem__(self, number: int) -> Any:
        return self._rows[number : number + 1].to_pylist()[0]

    def where(self, number: int) -> str:
        """The data set and the row, counted from 0."""
        return f"{self._label}: record {number}"


def _light(array: Any) -> Any:
    """The array with `?` for every binary value."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import compute, types

    kind = array.type
    if types.is_binary(kind) or types.is_large_binary(kind):
        return compute.if_else(array.is_valid(), pa.scalar(b"?"), pa.scalar(None, pa.binary()))
    if types.is_struct(kind) and kind.num_fields:
        fields = [_light(field) for field in array.flatten()]
        return pa.StructArray.from_arrays(fields, [field.name for field in kind], mask=array.is_null())
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = compute.fill_null(compute.list_value_length(array), 0)
        offsets = pa.concat_arrays([pa.array([0], lengths.type), compute.cumulative_sum(lengths)])
        make = pa.ListArray if types.is_list(kind) else pa.LargeListArray
        return make.from_arrays(offsets, _light(array.flatten()), mask=array.is_null())
    return array
