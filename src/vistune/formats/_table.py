"""The tables of 🤗 datasets, mapped into memory from disk, as rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from vistune.errors import VistuneError, require
from vistune.formats import Format, Location, OnError, Place, Row

_ROWS = 1_000


def load_with_datasets(load: Callable[[Any], Any], location: Location) -> Any:
    """What `load` gets from the package `datasets`.

    Raises MissingPackageError without the package, `location.error` if it fails.
    """
    datasets = require("datasets", "data", "reading this format", where=location.label)
    with table_errors(location):
        return load(datasets)


@contextmanager
def table_errors(location: Location) -> Iterator[None]:
    """Raises the location's error in place of what the many readers of `datasets` and Arrow raise."""
    try:
        yield
    except VistuneError:
        raise
    except Exception as error:
        what = f"cannot be read: {error.__cause__ or error}"
        raise location.error(what, where=location.label, fix="copy or make it again") from error


class Table(Format):
    """The rows of a `datasets.Dataset`, counted from 0, images as they are stored."""

    @abstractmethod
    def load(self) -> Any:
        """The `datasets.Dataset`. Raises MissingPackageError without this package, the location's error if it fails."""

    @cached_property
    def _all(self) -> Any:
        return self.load()

    @cached_property
    def _rows(self) -> Any:
        wanted = self._location.columns
        names = [name for name in self._all.column_names if not wanted or name in wanted]
        return self._all.select_columns(names).with_format("arrow")

    def columns(self) -> list[str] | None:
        return list(self._all.column_names)

    def scan(self, on_error: OnError, *, images: bool = False) -> Iterator[Row]:  # noqa: ARG002
        with table_errors(self._location):
            for start in range(0, len(self._rows), _ROWS):
                table = self._rows[start : start + _ROWS].combine_chunks()
                names = table.column_names
                columns = [_light(table.column(name).combine_chunks()).to_pylist() for name in names]
                for number, row in enumerate(zip(*columns, strict=True), start):
                    yield self._row(dict(zip(names, row, strict=True)), number)

    def read(self, place: Place) -> Row:
        number = place[0]
        with table_errors(self._location):
            return self._row(self._rows[number : number + 1].to_pylist()[0], number)

    def _row(self, values: dict[str, Any], number: int) -> Row:
        return Row(values, f"{self.label}: record {number}", (number, 0, 0))


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
