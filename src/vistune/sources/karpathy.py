"""Karpathy's JSON of captions with his splits of COCO, Flickr8k and Flickr30k: dataset_coco.json.

See https://cs.stanford.edu/people/karpathy/deepimagesent/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from vistune.errors import AnnotationError
from vistune.formats import OnError
from vistune.sources import sources
from vistune.sources._contents import Contents
from vistune.sources._drafts import Draft
from vistune.sources._reading import Reading, each, json_rows
from vistune.sources._rows import Row, texts, value_of
from vistune.sources._splits import choose_split


@sources.register("karpathy")
class Karpathy(Reading):
    """A JSON file, or a folder with one; `split` is that of the images: train, restval, val or test."""

    def _choose(self, split: str | None, default: str) -> tuple[list[Path], str]:
        files = self._own_files(self.contents)
        if not files:
            return super()._choose(split, default)
        self._chosen = files
        return files, choose_split(split, self._splits, self.path, default)

    @staticmethod
    def reads(contents: Contents, file: Path) -> bool:
        return contents.json(file).has("images", "filename", "sentences")

    @cached_property
    def _splits(self) -> set[str]:
        return {str(row.get("split", "")) for _, row in self._rows()}

    def drafts(self, on_error: OnError) -> Iterator[Draft]:
        rows = ((where, row) for where, row in self._rows() if str(row.get("split", "")) == self.split)
        return each(rows, _draft, on_error)

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in self._chosen:
            for where, row in json_rows(file, "image", "images"):
                yield where, row if isinstance(row, dict) else {}


def _draft(item: tuple[str, dict[str, Any]]) -> Draft:
    where, values = item
    row = Row(values, where)
    name = values.get("filename")
    if not isinstance(name, str) or not name:
        raise AnnotationError("the image has no 'filename'", where=where)
    captions = tuple(texts(row, value_of(row, "sentences.raw")))
    id_ = str(values["cocoid"]) if "cocoid" in values else Path(name).stem
    folder = values.get("filepath")
    return Draft(id_, (f"{folder}/{name}", name) if folder else (name,), where, captions=captions)
