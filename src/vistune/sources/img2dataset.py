"""What img2dataset writes beside the images: parquet files with a row for each address, whether it was fetched or not.

See https://github.com/rom1504/img2dataset#output-format. The images are `00000/000000000.jpg` beside `00000.parquet`;
within tar files they are read by the source `webdataset`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._reading import Reading, each
from vistune.sources._rows import CAPTIONS, Row, find, first_rows, read_rows, texts

_COLUMNS = {"url", "key", "status"}


@sources.register("img2dataset")
class Img2dataset(Reading):
    """A parquet file, or a folder of them. Rows whose image was not fetched are left out."""

    yields_to: ClassVar[tuple[str, ...]] = ("webdataset",)

    endings = (".parquet",)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return any(row.values.keys() >= _COLUMNS for row in contents.memo(file, first_rows)[:1])

    @classmethod
    def _own_files(cls, contents: Contents) -> list[Path]:
        files = contents.files(*cls.endings)  # may be thousands of one kind
        return files if any(cls.reads(contents, file) for file in files[:1]) else []

    def _takes_all(self, splits: Collection[str]) -> bool:  # noqa: ARG002
        return True

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            rows = (row for row in read_rows(file, on_error) if row.values.get("status") == "success")
            yield from each(rows, partial(_draft, shard=file.stem), on_error)


def _draft(row: Row, shard: str) -> Draft:
    key = str(row.values["key"])
    [column] = find(row, (), CAPTIONS, "captions", "a usual name, e.g. 'caption'")
    captions = tuple(texts(row, row.values[column]))
    return Draft(key, (f"{shard}/{key}.jpg", f"{key}.jpg"), row.where, captions=captions)
