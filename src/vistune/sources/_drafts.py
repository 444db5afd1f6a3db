"""An image as its annotation file has it, before anything is checked, and what a reading found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class RawBox(NamedTuple):
    """A box with the category's name and the corners as they are written: in pixels, or in fractions of the image.

    A box without a name is left out and counted.
    """

    category: str
    x1: float
    y1: float
    x2: float
    y2: float
    where: str
    crowd: bool = False


@dataclass(slots=True)
class Draft:
    """An image as its annotations have it.

    `names` are those that its file may have, the likeliest first: paths, of any system. `width` and `height` are the
    annotated ones, 0 if there are none; `pixels` says whether the boxes are in pixels, else in fractions. Of an image
    that is not `exhaustive` not all objects of the data's categories have boxes.
    """

    id: str
    names: tuple[str, ...]
    where: str
    boxes: Sequence[RawBox] = ()
    captions: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    pixels: bool = True
    exhaustive: bool = True


@dataclass(slots=True)
class Findings:
    """What one pass over annotations found; `lines` reports what a user should know."""

    images: int = 0
    missing: int = 0
    """Images without a file."""
    missing_example: str = ""
    unreadable: int = 0
    """Image files whose size cannot be read."""
    left_out: int = 0
    """Records with a mistake."""
    turned: int = 0
    """Images whose boxes were drawn on the stored pixels, and are turned as the image's EXIF data says."""
    unsure: int = 0
    """Images that the EXIF data turn, where nothing says whether the boxes were drawn before or after."""
    federated: int = 0
    """Images where only some categories have all of their objects boxed."""
    scaled: int = 0
    """Images of another size than annotated."""
    clipped: int = 0
    """Boxes that stuck out of their image."""
    without_area: int = 0
    unlabelled: int = 0
    """Boxes without a category."""
    doubled: int = 0
    renamed_away: int = 0
    """Boxes of categories that the table of new names leaves out."""
    boxes: int = 0
    captions: int = 0
    first_mistake: str = ""
    unknown_names: tuple[str, ...] = field(default=())
    """Names in the table of new names that no box had so far."""

    def lines(self) -> Iterator[str]:
        """A line for each thing that differs from the annotations, or is missing."""
        if self.missing:
            yield f"{self.missing:,} of {self.images:,} image files are missing, such as {self.missing_example}"
        counts = {
            "image files that cannot be read": self.unreadable,
            "records with a mistake, left out": self.left_out,
            "images turned by EXIF data, with boxes drawn before, and so turned, too": self.turned,
            "images turned by EXIF data, with boxes read as drawn after (nothing says so)": self.unsure,
            "images of another size than annotated, with boxes scaled": self.scaled,
            "images with boxes of some categories only; no absence is stated": self.federated,
            "boxes that stick out of their image, clipped": self.clipped,
            "boxes without area, left out": self.without_area,
            "boxes without a label, left out": self.unlabelled,
            "doubled boxes, left out": self.doubled,
            "boxes left out by --rename": self.renamed_away,
        }
        yield from (f"{what}: {count:,}" for what, count in counts.items() if count)
        if self.unknown_names:
            yield f"--rename has names that no box has: {', '.join(self.unknown_names)}"

    def reasons(self) -> str:
        """Why there is nothing to write about, in one line."""
        read = f"{self.images:,} images, {self.boxes:,} boxes and {self.captions:,} captions were read"
        first = f"the first mistake: {self.first_mistake}" if self.first_mistake else ""
        return "; ".join(filter(None, (read, *self.lines(), first)))
