"""The rows of a public benchmark's table, by their columns: VLMEvalKit's TSV, a data set of the hub, parquet …."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.formats import Format, Location, Row, formats, read_objects, stop
from vistune.formats.hub import PREFIX
from vistune.reading import in_format
from vistune.storage import atomic_path

_MAX_REFERENCE = 64
"""VLMEvalKit's rule: a longer `image` is base64, a shorter one is the index of the row that has the image."""
_ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}
_FORM = "columns index, image (base64) or image_path, question, A, B, …, answer"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A question of a table: with choices, the place of the right one (None: not published), else with `answers`."""

    index: str
    question: str
    hint: str
    images: tuple[Path, ...]
    choices: tuple[str, ...]
    answer: int | None
    answers: tuple[str, ...]
    category: str
    l2_category: str
    split: str


def read_table(setting: Setting, *, unpack: bool = True) -> list[TableRow]:
    """The rows of the setting's file or `hub:` data set. Raises DataError.

    An image that stands in the table gets a file in `setting.unpacked`, once, named by its content; with `unpack`
    false it has only the name.
    """
    images = _Images(setting, unpack)
    rows: dict[str, TableRow] = {}
    for number, (values, where) in enumerate(_rows(setting)):
        with in_format(where, DataError):
            row = _row(values, number, where)
            index = row.index if row.index not in rows else f"{row.index}/{number}"  # MME's ids are those of images
            images.add(index, values)
        rows[index] = replace(row, index=index)
    return [replace(row, images=images[index]) for index, row in rows.items()]


def _rows(setting: Setting) -> Iterator[tuple[dict[str, Any], str]]:
    """Each row with its columns in lower case, but for the letters of choices, and without empty cells."""
    path, options = str(setting.path), setting.options
    if path.startswith(PREFIX):
        location = Location(path, DataError, split=options.get("split"), subset=options.get("subset"))
        found = _with_images(formats.get("hub")(location))
    elif path.endswith(".parquet"):
        found = _with_images(formats.get("parquet")(Location(path, DataError)))
    else:
        found = read_objects(setting.file, DataError)
    for row in found:
        known = {key: value for key, value in row.values.items() if not _is_empty(value)}
        yield (
            {key if len(key) == 1 else key.lower().replace("_", "-"): value for key, value in known.items()},
            row.where,
        )


def _with_images(table: Format) -> Iterator[Row]:
    return (table.read(row.place) for row in table.scan(stop, images=True))


def _row(values: Mapping[str, Any], number: int, where: str) -> TableRow:
    question = values.get("question")
    if question is None:
        raise DataError(f"it has no question, but {', '.join(values)}", where=where, fix=_FORM)
    choices, answer = _choices(values), values.get("answer", values.get("answers"))
    texts = {key: str(values.get(key, "")) for key in ("hint", "category", "l2-category", "split")}
    index = str(values.get("index", values.get("question-id", values.get("id", number))))
    return TableRow(
        index.removesuffix(".0"), str(question), texts["hint"], (), choices,
        None if answer is None or not choices else _place(answer, choices, where),
        () if choices else _texts(values.get("answers", answer)),
        texts["category"], texts["l2-category"], texts["split"],
    )  # fmt: skip


def _choices(values: Mapping[str, Any]) -> tuple[str, ...]:
    """From the columns A, B, … up to the first empty one, `choices` or `options`, or `choice_a`, `choice_b`, …."""
    for names in (ascii_uppercase, [f"choice-{letter}" for letter in ascii_uppercase.lower()]):
        last = next((place for place, name in enumerate(names) if name not in values), len(names))
        if last > 1:
            return tuple(str(values[name]) for name in names[:last])
    return _texts(values.get("choices", values.get("options")))


def _place(answer: Any, choices: tuple[str, ...], where: str) -> int:
    """The place of the right choice, given as a letter, a place from 0, or its text."""
    text = str(answer).strip()
    if len(text) == 1 and text in ascii_uppercase[: len(choices)]:
        return ascii_uppercase.index(text)
    if text in choices:
        return choices.index(text)
    if text.isdecimal() and int(text) < len(choices):
        return int(text)
    raise DataError(f"the answer '{text}' is none of the {len(choices)} choices", where=where)


def _texts(value: Any) -> tuple[str, ...]:
    """One or several texts: a list, a text that spells one, or VQA's `{"answer": …}`."""
    items = _list(value)
    return tuple(str(item["answer"] if isinstance(item, dict) and "answer" in item else item) for item in items)


def _list(value: Any) -> list[Any]:
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        for read in (literal_eval, json.loads):
            try:
                return list(read(value))
            except (ValueError, SyntaxError, TypeError):
                continue
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _is_empty(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


class _Images:
    """The images of rows by index: paths, files for what is embedded, or those of another row."""

    def __init__(self, setting: Setting, unpack: bool) -> None:
        self._setting, self._unpack = setting, unpack
        self._found: dict[str, list[Path | str]] = {}  # a text is another row's index

    def add(self, index: str, values: Mapping[str, Any]) -> None:
        """Add a row's images."""
        embedded = [values[key] for key in values if re.fullmatch(r"image(-?\d+)?", key)]
        items = [item for value in embedded for item in _list(value)] or _list(values.get("image-path"))
        self._found[index] = [self._image(item) for item in items]

    def __getitem__(self, index: str) -> tuple[Path, ...]:
        """The images of a row; a reference that is no index is a path."""
        found: list[Path] = []
        for one in self._found[index]:
            others = self._found.get(one, []) if isinstance(one, str) else [one]
            found += [other for other in others if isinstance(other, Path)] or [self._path(str(one))]
        return tuple(found)

    def _image(self, item: Any) -> Path | str:
        if isinstance(item, Mapping):
            item = item.get("bytes") or item.get("path")
        if isinstance(item, bytes):
            return self._file(item, item)
        text = str(item)
        return self._file(text.encode(), None) if len(text) > _MAX_REFERENCE and "." not in text else text

    def _path(self, name: str) -> Path:
        path = self._setting.path or Path()
        return (self._setting.images or path.parent) / name

    def _file(self, content: bytes, image: bytes | None) -> Path:
        """The file of an image, which is base64 if `image` is None."""
        try:
            start = image or base64.b64decode(content[:8])
            name = hashlib.sha256(content).hexdigest()[:32] + _ENDINGS.get(start[:2], ".jpg")
            path = self._setting.unpacked / name
            if self._unpack and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as partial:
                    partial.write_bytes(image or base64.b64decode(content))
        except binascii.Error as error:
            raise DataError(f"an image is no base64: {error}", where=str(self._setting.path)) from None
        return path
