"""Captions in rows: JSON lists, JSON lines, CSV, TSV, parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import ClassVar

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft, RawBox
from vistune.sources._reading import Reading
from vistune.sources._rows import (
    CAPTIONS,
    FIRST_ROWS,
    IMAGE,
    ROW_ENDINGS,
    Row,
    find,
    image_name,
    read_rows,
    record_id,
    sample,
    texts,
    usual,
    value_of,
)  # fmt: skip

_MORE_SPECIAL = ("caps_boxes", "box_rows", "img2dataset", "visual_genome", "label_studio", "lines")


@sources.register("captions")
class Captions(Reading):
    """A file with an image and one or more captions in each row; docs/reference/annotations.md has the columns' names.

    Rows of one image that follow each other become one record.
    """

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None,
        image_column: str | None = None, caption_column: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._columns = (image_column,) if image_column else (), tuple(caption_column)
        super().__init__(contents, split, default_split=default_split, images=images)
        for file in self._files[:1]:
            self._check_columns(file)

    yields_to: ClassVar[tuple[str, ...]] = _MORE_SPECIAL

    def _candidates(self) -> list[Path]:
        """A file that is named as such is read whatever its columns: they may be under other names."""
        return [self.path] if self.path.is_file() else self._own_files(self.contents)

    endings = ROW_ENDINGS

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return has_columns(contents, file, (IMAGE, CAPTIONS))

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            for _, rows in groupby(self._rows(file, on_error), key=itemgetter(0)):
                drafts = [draft for _, draft in rows]
                if None not in drafts:  # a mistake in one of its rows leaves an image out
                    yield reduce(_merge, filter(None, drafts))

    def _rows(self, file: Path, on_error: OnError) -> Iterator[tuple[str, Draft | None]]:
        """The image's path and the draft of each row; None for one with a mistake."""
        for row in read_rows(file, on_error):
            image = None
            try:
                [column] = find(row, self._columns[0], IMAGE, "images", "--image-column")
                image = image_name(row, value_of(row, column))
                yield image, self._draft(row, image)
            except AnnotationError as error:
                on_error(error)
                if image is not None:
                    yield image, None

    def _draft(self, row: Row, image: str) -> Draft:
        boxes = tuple(self._boxes(row))
        captions = tuple(text for name in self._captions(row) for text in texts(row, value_of(row, name)))
        return Draft(record_id(row, image), (image,), row.where, boxes, captions, pixels=False)

    def _captions(self, row: Row) -> list[str]:
        return find(row, self._columns[1], CAPTIONS, "captions", "--caption-column")

    def _boxes(self, row: Row) -> Iterator[RawBox]:  # noqa: ARG002
        return iter(())

    def _check_columns(self, file: Path) -> None:
        """Raises AnnotationError, about the first row, if none of the first ones has the columns."""
        broken: list[AnnotationError] = []
        incomplete: list[AnnotationError] = []
        for row in islice(read_rows(file, broken.append), FIRST_ROWS):
            try:
                return self._check(row)
            except AnnotationError as error:
                incomplete.append(error)
        raise next(iter(incomplete + broken), None) or AnnotationError(
            "it has no records", where=str(file), fix="name a file with rows of an image and captions"
        )

    def _check(self, row: Row) -> None:
        find(row, self._columns[0], IMAGE, "images", "--image-column")
        self._captions(row)


def has_columns(contents: Contents, file: Path, wanted: Sequence[tuple[str, ...]]) -> bool:
    """Whether one of the first rows of a file has a column out of each of `wanted`."""
    return any(all(usual(row, names) for names in wanted) for row in sample(contents, file))


def _merge(draft: Draft, more: Draft) -> Draft:
    """One draft of two rows about an image; many files repeat the boxes in each row."""
    captions = (text for text in more.captions if text not in draft.captions)
    known = {box[:5] for box in draft.boxes}
    boxes = (box for box in more.boxes if box[:5] not in known)
    return replace(draft, captions=(*draft.captions, *captions), boxes=(*draft.boxes, *boxes))
