"""Captions in rows: JSON lists, JSON lines, CSV, TSV, parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.records import Box, ImageRecord
from vistune.sources import OnError, no_split, sources, stop
from vistune.sources.columns import CAPTIONS, IMAGE, find, image_name, record_id, texts, usual, value_of
from vistune.sources.rows import ENDINGS, Row, read_rows
from vistune.sources.stream import Stream

_LOOKED_AT = 100
"""So many rows are looked at before a file is said not to have a column."""


@sources.register("captions")
class Captions(Stream):
    """A file with an image and one or more captions in each row; docs/reference/annotations.md has the columns' names.

    Rows of one image that follow each other become one record. `images` is the folder that the images' paths start
    from, in place of the file's.
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
        self._look()

    @staticmethod
    def fits(path: Path) -> bool:
        """By the columns of the first rows."""
        return has_columns(path, (IMAGE, CAPTIONS)) and not has_columns(path, (("instances",),))

    def _read(self, on_error: OnError) -> Iterator[ImageRecord]:
        before: ImageRecord | None = None
        name: str | None = None
        for row in read_rows(self.path, on_error):
            image: str | None = None
            record: ImageRecord | None = None
            try:
                image = image_name(row, value_of(row, find(row, self._given[0], IMAGE, "images", "--image-column")[0]))
                record = self._record(row, image)
            except AnnotationError as error:
                on_error(error)
                if image is None:
                    continue
            if image == name:  # a mistake in one of its rows leaves the image out
                before = _together(before, record) if before and record else None
                continue
            if before:
                yield before
            before, name = record, image
        if before:
            yield before

    def _record(self, row: Row, image: str) -> ImageRecord:
        boxes = tuple(self._boxes(row))
        captions = tuple(text for name in self._captions(row) for text in texts(row, value_of(row, name)))
        return ImageRecord(record_id(row, image), self.images / image, 0, 0, captions, boxes, row.where)

    def _captions(self, row: Row) -> list[str]:
        return find(row, self._given[1], CAPTIONS, "captions", "--caption-column")

    def _boxes(self, row: Row) -> Iterator[Box]:  # noqa: ARG002
        return iter(())

    def _look(self) -> None:
        """Raises AnnotationError, about the first row, if none of the first ones has the columns."""
        bad: AnnotationError | None = None
        wrong: AnnotationError | None = None

        def note(error: AnnotationError) -> None:
            nonlocal bad
            bad = bad or error

        for row in islice(read_rows(self.path, note), _LOOKED_AT):
            try:
                return self._check(row)
            except AnnotationError as error:
                wrong = wrong or error
        raise wrong or bad or AnnotationError("there is no record in it", where=str(self.path))

    def _check(self, row: Row) -> None:
        """Raises AnnotationError if the columns are not there."""
        find(row, self._given[0], IMAGE, "images", "--image-column")
        self._captions(row)


def _together(record: ImageRecord, more: ImageRecord) -> ImageRecord:
    """The record with what another row says of its image; many files repeat the boxes in each row."""
    captions = (text for text in more.captions if text not in record.captions)
    boxes = (box for box in more.boxes if box not in record.boxes)
    return replace(record, captions=(*record.captions, *captions), boxes=(*record.boxes, *boxes))


def has_columns(path: Path, wanted: Sequence[tuple[str, ...]]) -> bool:
    """Whether one of the first rows of a file has a column out of each of `wanted`."""
    if not path.is_file() or path.suffix.lower() not in ENDINGS:
        return False
    try:
        rows = islice(read_rows(path, lambda _: None), _LOOKED_AT)
        return any(all(usual(row, one) for one in wanted) for row in rows)
    except AnnotationError:
        return False
