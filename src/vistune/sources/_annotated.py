"""From drafts to records: the one place where images are found, sizes checked, boxes clipped and categories named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vistune.errors import AnnotationError
from vistune.formats import OnError, stop
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE
from vistune.records import Box, ImageRecord
from vistune.sources._category_names import CategoryNames
from vistune.sources._drafts import Draft, Findings, RawBox
from vistune.sources._helpers import is_number
from vistune.sources._image_files import ImageFinder, Size, read_size, turn
from vistune.sources._reading import Source

_EXCESS = 0.01
"""The share of an image's side by which rounding puts a box outside, if it is more than a pixel; it is not counted."""
_OTHER_UNIT = 2.0
"""Fractions beyond it are no fractions."""
_NOTICE = 20_000
"""Images between two notices of how many were read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How annotations are taken that do not fit their image, or lead elsewhere."""

    strict: bool = False
    """A box that sticks out, has no area or no label, or is doubled is a mistake of its record."""
    scale_boxes: bool = False
    """Boxes of an image of another size than annotated are scaled to it; else that is a mistake of its record."""
    allow_outside: bool = False
    """Images may be outside of the images' folder; else that is a mistake of its record."""


class AnnotatedImages:
    """The annotated images of a source as records; they can be iterated again.

    `findings` is what the last pass found. Errors come in the order of the files, so counting those given to
    `on_error` is enough to report each bad record once, however many passes there are.
    """

    def __init__(
        self, source: Source, *, rules: Rules | None = None,
        names: CategoryNames | None = None, on_error: OnError = stop, notice: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.source, self.images, self.findings = source, source.images, Findings()
        self._rules, self._names = rules or Rules(), names or CategoryNames()
        self._on_error, self._notice = on_error, notice
        self._finder = ImageFinder(source.images, source.places, allow_outside=self._rules.allow_outside)
        self._reported = 0
        self._sound: set[int] = set()
        """Hashes of the names of images about whose size there is nothing to say: their files are opened once."""

    def __iter__(self) -> Iterator[ImageRecord]:
        self.findings = findings = Findings()
        count = 0

        def once(error: AnnotationError) -> None:
            nonlocal count
            count += 1
            findings.left_out += 1
            findings.first_mistake = findings.first_mistake or str(error).partition("\n")[0]
            if count > self._reported:
                self._reported = count
                self._on_error(error)

        return self._pass(findings, once)

    def _pass(self, findings: Findings, on_error: OnError) -> Iterator[ImageRecord]:
        for draft in self._drafts(on_error):
            try:
                record = self._record(draft, findings)
            except AnnotationError as error:
                on_error(error)
                continue
            except (*WRONG_TYPE, OSError) as error:  # OSError: a name that is too long
                on_error(AnnotationError(f"{NOT_IN_FORMAT}: {error}", where=draft.where))
                continue
            findings.images += 1
            findings.boxes += len(record.boxes)
            findings.captions += len(record.captions)
            if self._notice and findings.images % _NOTICE == 0:
                self._notice(f"{findings.images:,} images read")
            yield record
        self._notice = None  # later passes are faster
        findings.unknown_names = self._names.unused()

    def _drafts(self, on_error: OnError) -> Iterator[Draft]:
        try:
            yield from self.source.drafts(on_error)
        except (*WRONG_TYPE, OSError) as error:  # between the records, as in a list of categories
            raise AnnotationError(
                f"{NOT_IN_FORMAT}: {error}", where=str(self.source.images), fix="correct that value"
            ) from error

    def _record(self, draft: Draft, findings: Findings) -> ImageRecord:
        file = self._finder.find(draft.names)
        if file is None and (outside := self._finder.outside):
            what = f"the image {outside} is outside of the folder {self._finder.base}"
            fix = "name a folder that holds the images with --images, or add --allow-outside"
            raise AnnotationError(what, where=draft.where, fix=fix)
        if file is None:
            findings.missing += 1
            findings.missing_example = findings.missing_example or str(self._finder.expected(draft.names[0]))
        findings.federated += not draft.exhaustive
        size = (draft.width, draft.height)
        if not all(map(is_number, size)):
            what = f"the image's width and height are not two numbers: {str(size)[:60]}"
            raise AnnotationError(what, where=draft.where, fix="write them in pixels, or leave them out")
        orientation = 1
        if file and draft.boxes:
            size, orientation = self._check_size(draft, file, findings)
        if draft.boxes and draft.pixels and min(size) < 1:
            fix = "add it to the annotations, or put the image there, or name its folder with --images"
            name = PurePath(draft.names[0]).name
            raise AnnotationError(f"the size of the image {name} is not known", where=draft.where, fix=fix)
        drawn_on = size if orientation < 5 else size[::-1]
        boxes = tuple(self._boxes(draft, drawn_on, orientation, findings))
        image = file or self._finder.expected(draft.names[0])
        return ImageRecord(draft.id, image, *size, draft.captions, boxes, draft.where)

    def _check_size(self, draft: Draft, file: Path, findings: Findings) -> tuple[tuple[int, int], int]:
        """The upright image's size, and the orientation by which its boxes are to be turned (1: not at all)."""
        key = hash(file)
        annotated = (draft.width, draft.height)
        if key in self._sound:
            return annotated, 1
        size = read_size(file)
        if size is None:
            findings.unreadable += 1
            return annotated, 1
        if size.orientation > 1 and (min(annotated) < 1 or _same(size.upright, size[:2])):
            findings.unsure += 1
        elif not draft.pixels or _same(annotated, size.upright):
            self._sound.add(key)
        if min(annotated) < 1:
            return size.upright if draft.pixels else annotated, 1
        if _same(annotated, size.upright):
            return annotated, 1
        if _same(annotated, size[:2]):
            findings.turned += 1
            return size.upright, size.orientation
        if not self._rules.scale_boxes:
            raise _other_size(draft, file, size)
        findings.scaled += 1
        return size.upright, 1

    def _boxes(self, draft: Draft, size: tuple[int, int], orientation: int, findings: Findings) -> Iterator[Box]:
        found: set[Box] = set()
        scale = (draft.width or size[0], draft.height or size[1]) if draft.pixels else (1, 1)
        for raw in draft.boxes:
            if not raw.category:
                findings.unlabelled += 1
                self._stop_if_strict(raw, "has no label")
                continue
            name = self._names(raw.category)
            if not name:
                findings.renamed_away += 1
                continue
            box = self._clipped(raw, name, scale, findings)
            if box and orientation != 1:
                box = turn(box, orientation)
            if box in found:
                findings.doubled += 1
                self._stop_if_strict(raw, "is there twice")
            elif box:
                found.add(box)
                yield box

    def _clipped(self, raw: RawBox, name: str, scale: tuple[int, int], findings: Findings) -> Box | None:
        width, height = scale
        if not all(map(is_number, raw[1:5])):
            fix = "correct it, or add --skip-bad-records"
            raise AnnotationError(f"a box of '{raw.category}' is not four finite numbers", where=raw.where, fix=fix)
        corners = (raw.x1 / width, raw.y1 / height, raw.x2 / width, raw.y2 / height)
        if scale == (1, 1) and max(map(abs, corners)) > _OTHER_UNIT:
            what = f"the box {[round(value, 4) for value in corners]} of '{raw.category}' is not in fractions"
            raise AnnotationError(what, where=raw.where, fix="its values are fractions of the image's size, 0 to 1")
        x1, y1, x2, y2 = corners
        if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
            return Box(name, x1, y1, x2, y2, crowd=raw.crowd)
        x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in corners)
        if x1 >= x2 or y1 >= y2:
            findings.without_area += 1
            self._stop_if_strict(raw, "has no area in its image")
            return None
        moved = [abs(new - old) * side for new, old, side in zip((x1, y1, x2, y2), corners, scale * 2, strict=True)]
        if any(by > max(_EXCESS * side, 1.01 if side > 1 else 0) for by, side in zip(moved, scale * 2, strict=True)):
            findings.clipped += 1
            self._stop_if_strict(raw, "sticks out of its image")
        return Box(name, x1, y1, x2, y2, crowd=raw.crowd)

    def _stop_if_strict(self, raw: RawBox, what: str) -> None:
        if self._rules.strict:
            corners = [round(value, 4) for value in raw[1:5]]
            fix = "correct it; without --strict it is clipped or left out, and counted"
            raise AnnotationError(f"the box {corners} of '{raw.category}' {what}", where=raw.where, fix=fix)


def _same(annotated: Sequence[int], size: Sequence[int]) -> bool:
    """Whether sizes are the same but for rounding."""
    return all(abs(one - other) <= 1 for one, other in zip(annotated, size, strict=True))


def _other_size(draft: Draft, file: Path, size: Size) -> AnnotationError:
    seen = "{} x {}".format(*size.upright)
    what = f"the image {file} has {seen} pixels, and its annotations say {draft.width} x {draft.height}"
    fix = "add --scale-boxes if the images were resized after they were annotated, or --skip-bad-records"
    return AnnotationError(what, where=draft.where, fix=fix)
