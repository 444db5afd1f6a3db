"""The bases of sources: what every one has, and the choice of the files of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources._contents import Contents
from vistune.sources._drafts import NOT_IN_FORMAT, WRONG_TYPE, Draft
from vistune.sources._helpers import missing
from vistune.sources._splits import choose_split, data_root, image_places, split_of

T = TypeVar("T")


class Base:
    """The attributes of every source; see `vistune.sources.Source`."""

    yields_to: ClassVar[tuple[str, ...]] = ()
    images: Path
    places: Sequence[Path]


class Reading(Base, ABC):
    """A source of the files of `contents`; it says which by `_own_files`.

    Where there are several splits, the files of one are read: by their names, or the names of their folders.
    """

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None
    ) -> None:
        if not contents.path.exists():
            raise missing(contents.path)
        self.contents, self.path = contents, contents.path
        self.images = images or data_root(self.path)
        self._files, self.split = self._choose(split, default_split)
        folders = tuple(dict.fromkeys(file.parent for file in self._files))
        self.places = image_places(self.images, folders, self.split)

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        """The files of the split, and its name."""
        own = self._candidates()
        if not own:
            what = f"there are no annotations of this format: {self.contents.describe()}"
            raise AnnotationError(what, where=str(self.path))
        splits: dict[str, list[Path]] = {}
        for file in own:
            splits.setdefault(split_of(file, self.path), []).append(file)
        if split is None and not self._picks_split:
            return own, ""
        chosen = choose_split(split, splits, self.path, default)
        return splits[chosen], chosen

    def _candidates(self) -> list[Path]:
        """The files to read; of a source that is named it may be others than those that fit."""
        return self._own_files(self.contents)

    _picks_split = True
    """Whether one split is taken where none is named; else all files are."""

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        """Whether there are files in this format."""
        return bool(cls._own_files(contents))

    @staticmethod
    @abstractmethod
    def _own_files(contents: Contents) -> list[Path]:
        """The files that are in this format."""

    @abstractmethod
    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        """The images of one pass."""


def each(records: Iterable[T], read: Callable[[T], Draft | None], on_error: OnError) -> Iterator[Draft]:
    """What `read` makes of each record; a mistake goes to `on_error`, None is left out."""
    for record in records:
        try:
            draft = read(record)
        except AnnotationError as error:
            on_error(error)
            continue
        except WRONG_TYPE as error:
            where = record[0] if isinstance(record, tuple) else getattr(record, "where", record)
            on_error(AnnotationError(f"{NOT_IN_FORMAT}: {error}", where=str(where)[:200]))
            continue
        if draft is not None:
            yield draft
