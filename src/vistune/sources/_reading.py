"""The bases of sources: what every one has, the choice of the files of a split, and the rows of a JSON list."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._helpers import json_stream
from vistune.sources._splits import choose_split, data_root, image_places, is_annotations_folder, split_of

T = TypeVar("T")
_FIRST = 20
"""Files of a folder that are looked into to know its format."""


class Source(ABC):
    """The annotated images of one split of a path, in the order of the files; they can be iterated again.

    A file or a split that does not exist is an AnnotationError; a bad record goes to `on_error`. What a record says is
    taken as it is written: images are found, boxes checked and categories named for all sources alike, by
    `AnnotatedImages`. Further keyword arguments of a source are its options.
    """

    yields_to: ClassVar[tuple[str, ...]] = ()
    """The sources that read the same files and know more about them."""
    images: Path
    """The folder that the output's image paths start from."""
    places: Sequence[Path]
    """The folders that the annotations' image paths may start from, the likeliest first."""

    @abstractmethod
    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None
    ) -> None:
        """`split` is None where none is named: then the only one, or `default_split`, or all images without splits.

        `images` is the folder of the images where the user names it.
        """

    @classmethod
    @abstractmethod
    def fits(cls, contents: Contents) -> bool:
        """Whether the path is in this format, by its content."""

    @abstractmethod
    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        """The images of one pass, as the files have them."""


class Reading(Source):
    """A source of files that hold a whole data set each, known by their beginning.

    Where there are several splits, the files of one are read: by their names, or the names of their folders.
    """

    endings: ClassVar[tuple[str, ...]] = (".json",)

    def __init__(
        self, contents: Contents, split: str | None = None, *, default_split: str = "train", images: Path | None = None
    ) -> None:
        self.contents, self.path = contents, contents.path
        self.images = images or data_root(self.path)
        self._files, self.split = self._choose(split, default_split)
        folders = tuple(dict.fromkeys(file.parent for file in self._files))
        self.places = image_places(self.images, folders, self.split)

    @staticmethod
    @abstractmethod
    def reads(contents: Contents, file: Path) -> bool:
        """Whether a file is in this format."""

    @classmethod
    def fits(cls, contents: Contents) -> bool:
        return bool(cls._own_files(contents))

    @classmethod
    def _own_files(cls, contents: Contents) -> list[Path]:
        """The files that are in this format."""
        return [file for file in contents.some(*cls.endings) if cls.reads(contents, file)]

    def _candidates(self) -> list[Path]:
        """The files to read; of a source that is named it may be others than those that fit."""
        return self._own_files(self.contents)

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        """The files of the split, and its name."""
        own = self._candidates()
        if not own:
            what = f"there are no annotations of this format: {self.contents.describe()}"
            raise AnnotationError(
                what, where=str(self.path), fix="name the format with --source, or leave it out to have it detected"
            )
        splits: dict[str, list[Path]] = {}
        for file in own:
            splits.setdefault(self._split_of(file), []).append(file)
        if split is None and self._takes_all(splits):
            return own, ""
        chosen = choose_split(split, splits, self.path, default)
        return splits[chosen], chosen

    def _split_of(self, file: Path) -> str:
        return split_of(file, self.path)

    def _takes_all(self, splits: Collection[str]) -> bool:  # noqa: ARG002
        """Whether all files are read where no split is named; else those of one are."""
        return False


class ReadingEach(Reading):
    """A source of folders with a file for each image: if one of a folder's first files fits, all of them are read."""

    @classmethod
    def _own_files(cls, contents: Contents) -> list[Path]:
        folders: dict[Path, list[Path]] = {}
        for file in contents.files(*cls.endings):
            folders.setdefault(file.parent, []).append(file)
        own = (files for files in folders.values() if any(cls.reads(contents, file) for file in files[:_FIRST]))
        return [file for files in own for file in files]

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        return each(self._files, self._draft, on_error)

    @abstractmethod
    def _draft(self, file: Path) -> Draft | None:
        """The image of a file."""

    def _split_of(self, file: Path) -> str:
        """By the folders alone: an image's own name may be `train_7`."""
        return split_of(file.with_name("_"), self.path) if self.path.is_dir() else ""

    def _takes_all(self, splits: Collection[str]) -> bool:
        return len(splits) == 1 or "" in splits

    @cached_property
    def _root(self) -> Path:
        return Path(os.path.commonpath({file.parent for file in self._files}))

    def _id(self, file: Path) -> str:
        """The file's name; with its folders where there are several."""
        return file.relative_to(self._root).with_suffix("").as_posix()

    def _names(self, file: Path, written: str) -> tuple[str, ...]:
        """The names of a file's image, the likeliest first: near it, in an equal sub-folder, as written, by stem."""
        name = re.split(r"[\\/]", written)[-1]
        folders = file.relative_to(self.path).parts[:-1] if self.path.is_dir() else ()
        inside = (one for one in folders if not is_annotations_folder(Path(one)))
        near = (str(place / name) for place in (*self._near(file.parent), file.parent.absolute()))
        return (*near, "/".join((*inside, name)), written, f"{file.stem}.jpg")

    def _near(self, folder: Path) -> tuple[Path, ...]:
        """The folders of images that belong to a folder of annotations: `a/img/b` to `a/ann/b`."""
        if folder not in self._places_near:
            top = next((one for one in (folder, *folder.parents) if is_annotations_folder(one)), folder)
            places = image_places(top.parent if is_annotations_folder(top) else top)
            self._places_near[folder] = tuple((place / folder.relative_to(top)).absolute() for place in places)
        return self._places_near[folder]

    @cached_property
    def _places_near(self) -> dict[Path, tuple[Path, ...]]:
        return {}


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


def json_rows(file: Path, what: str, member: str = "") -> Iterator[tuple[str, Any]]:
    """The elements of a JSON list, or of the list that is a member of an object, each with its place."""
    with json_stream(file) as stream:
        lists = (key for key in stream.members() if key == member) if member else iter([""])
        for _ in lists:
            for number, (row, _, _) in enumerate(stream.elements()):
                yield f"{file}: {what} {number}", row
