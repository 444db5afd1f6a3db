"""Captions in rows: JSON lists, JSON lines, CSV, TSV, parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, sources, stop
from vistune.sources._helpers import Stream, no_split
from vistune.sources._rows import (
    CAPTIONS,
    FIRST_ROWS,
    IMAGE,
    Row,
    find,
    has_columns,
    image_name,
    read_rows,
    record_id,
    texts,
    value_of,
)  # fmt: skip


@sources.register("captions")
class Captions(Stream):
    """A file with an image and one or more captions in each row; docs/reference/annotations.md has the columns' names.

    Rows of one image that follow each other become one record. Image paths start from the folder `images`, by default
    the file's.
    """

    def __init__(
        self, path: Path, split: str | None = None, *, on_error: OnError = stop,
        image_column: str | None = None, caption_column: Sequence[str] = (), images: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, split, on_error=on_error)
        if split is not None:
            raise no_split(split, [], path)
        self.images = images or path.parent
        self._given = (image_column,) if image_column else (), tuple(caption_column)
        self._check_columns()

    @staticmethod
    def fits(path: Path) -> bool:
        return has_columns(path, (IMAGE, CAPTIONS)) and not has_columns(path, (("instances",),))

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        for _, rows in groupby(self._rows(on_error), key=itemgetter(0)):
            records = [record for _, record in rows]
            if None not in records:  # a mistake in one of its rows leaves an image out
                yield reduce(_merge, filter(None, records))

    def _rows(self, on_error: OnError) -> Iterator[tuple[str, ImageRecord | None]]:
        """The image's path and the record of each row; None for one with a mistake."""
        for row in read_rows(self.path, on_error):
            image = None
            try:
                [column] = find(row, self._given[0], IMAGE, "images", "--image-column")
                image = image_name(row, value_of(row, column))
                yield image, self._record(row, image)
            except AnnotationError as error:
                on_error(error)
                if image is not None:
                    yield image, None

    def _record(self, row: Row, image: str) -> ImageRecord:
        boxes = tuple(self._boxes(row))
        captions = tuple(text for name in self._captions(row) for text in texts(row, value_of(row, name)))
        return ImageRecord(record_id(row, image), self.images / image, 0, 0, captions, boxes, row.where)

    def _captions(self, row: Row) -> list[str]:
        return find(row, self._given[1], CAPTIONS, "captions", "--caption-column")

    def _boxes(self, row: Row) -> Iterator[Box]:  # noqa: ARG002
        return iter(())

    def _check_columns(self) -> None:
        """Raises AnnotationError, about the first row, if none of the first ones has the columns."""
        broken: list[AnnotationError] = []
        incomplete: list[AnnotationError] = []
        for row in islice(read_rows(self.path, broken.append), FIRST_ROWS):
            try:
                return self._check(row)
            except AnnotationError as error:
                incomplete.append(error)
        raise next(iter(incomplete + broken), None) or AnnotationError("it has no records", where=str(self.path))

    def _check(self, row: Row) -> None:
        find(row, self._given[0], IMAGE, "images", "--image-column")
        self._captions(row)


def _merge(record: ImageRecord, more: ImageRecord) -> ImageRecord:
    """One record of two rows about an image; many files repeat the boxes in each row."""
    captions = (text for text in more.captions if text not in record.captions)
    boxes = (box for box in more.boxes if box not in record.boxes)
    return replace(record, captions=(*record.captions, *captions), boxes=(*record.boxes, *boxes))
