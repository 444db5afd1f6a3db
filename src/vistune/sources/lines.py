"""Lines of an image and a caption with a tab between them, without a line of names.

CC3M has the caption first and an address, CC12M the address first; Flickr8k's and Flickr30k's token files have
`1.jpg#0` first, with the number of the caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.reading import bounded_lines, not_utf8, open_file
from vistune.scene.context import one_line
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._reading import Reading
from vistune.sources._rows import Row, id_of, image_name

_IMAGE = re.compile(r"(https?://\S+|[^\t]+\.(jpe?g|png|webp|gif|bmp)(#\d+)?)", re.IGNORECASE)
_NUMBER = re.compile(r"#\d+$")
_FIRST = 50


@sources.register("lines")
class Lines(Reading):
    """A text file, or a folder with one. Lines of one image that follow each other become one record.

    The id of an image with an address is the number of its line: an address is no name of a file.
    """

    endings = (".tsv", ".txt", ".token", ".csv")

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return _image_column(contents.lines(file)) is not None

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        for file in self._files:
            column = _image_column(self.contents.lines(file)) or 0
            for image, lines in groupby(_rows(file, column, on_error), key=lambda row: row[0]):
                several = list(lines)
                where = f"{file}: line {several[0][1]}"
                captions = tuple(dict.fromkeys(filter(None, (one_line(text) for _, _, text in several))))
                address = image.startswith(("http://", "https://"))
                name = image_name(Row({}, where), image)
                id_ = f"{several[0][1]:09}" if address else id_of(name, where)
                yield Draft(id_, (name,), where, captions=captions)


def _image_column(lines: list[str]) -> int | None:
    """Which of two columns holds the images in all of the first lines; None if none does."""
    rows = [line.split("\t") for line in lines[:_FIRST] if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        return None
    columns = [place for place in (0, 1) if all(_IMAGE.fullmatch(row[place].strip()) for row in rows)]
    return columns[0] if len(columns) == 1 else None


def _rows(file: Path, column: int, on_error: OnError) -> Iterator[tuple[str, int, str]]:
    """The image, the line's number from 1, and the caption of each line."""
    with open_file(file, AnnotationError) as opened:
        for number, data in enumerate(bounded_lines(opened, str(file), AnnotationError), 1):
            where = f"{file}: line {number}"
            try:
                row = data.decode("utf-8-sig").rstrip("\r\n").split("\t")
            except UnicodeDecodeError as error:
                raise not_utf8(error, where, AnnotationError) from None
            if len(row) == 2 and row[column].strip():
                yield _NUMBER.sub("", row[column].strip()), number, row[1 - column]
            elif any(map(str.strip, row)):
                on_error(AnnotationError("it is not an image, a tab and a caption", where=where))
