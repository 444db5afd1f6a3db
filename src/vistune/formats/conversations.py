"""Conversations as files that `vistune train` reads: LLaVA's JSON list, JSON lines of messages, parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError, did_you_mean, require
from vistune.records import Conversation, ImageRecord
from vistune.storage import atomic_path, atomic_text

_SPEAKERS = {"user": "human", "assistant": "gpt"}
_GROUP = 2_000
"""Conversations in a row group of a parquet file."""


def write_conversations(conversations: Iterable[Conversation], stem: Path, form: str = "llava") -> int:
    """Write all of them, one by one, to the file of `output_path`; returns how many there were.

    The file is there whole or not at all. Raises VistuneError for an unknown format, MissingPackageError without
    pyarrow, StorageError if the disk is full.
    """
    path = output_path(stem, form)
    return FORMATS[form][1](conversations, path)


def output_path(stem: Path, form: str) -> Path:
    """Where conversations in the format `form` are written: `stem` with the format's ending.

    `llava`: a JSON list as LLaVA's training data (.json); `messages`: JSON lines with `messages` and `images` as
    OpenAI's and TRL's (.jsonl); `parquet`: LLaVA's keys as columns. Raises VistuneError for an unknown format.
    """
    if form not in FORMATS:
        raise VistuneError(f"unknown format '{form}'", fix=did_you_mean(form, FORMATS))
    return stem.with_name(stem.name + FORMATS[form][0])


def to_llava(conversation: Conversation) -> dict[str, Any]:
    """A conversation as LLaVA's training data has it (`id`, `image`, `conversations`)."""
    images = conversation.images
    image: dict[str, Any] = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    turns = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in conversation.turns]
    return {"id": conversation.id, **image, "conversations": turns}


def to_messages(conversation: Conversation) -> dict[str, Any]:
    """A conversation as `id`, `images` and OpenAI's `messages`, whose `<image>` stands for the image."""
    messages = [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
    return {"id": conversation.id, "images": list(conversation.images), "messages": messages}


def write_llava(conversations: Iterable[Conversation], path: Path) -> int:
    """Write a JSON list, one conversation a line, without holding it in memory; returns how many there were."""
    count = 0
    with atomic_text(path) as file:
        for count, conversation in enumerate(conversations, 1):
            file.write(("[\n" if count == 1 else ",\n") + to_json(to_llava(conversation)))
        file.write("\n]\n" if count else "[]\n")
    return count


def write_messages(conversations: Iterable[Conversation], path: Path) -> int:
    """Write JSON lines, one conversation a line, without holding them in memory; returns how many there were."""
    count = 0
    with atomic_text(path) as file:
        for conversation in conversations:
            file.write(to_json(to_messages(conversation)) + "\n")
            count += 1
    return count


def write_parquet(conversations: Iterable[Conversation], path: Path) -> int:
    """Write `id`, `kind`, `image` (a path) and `conversations` as columns; returns how many rows there were."""
    pa = require("pyarrow", "data", "writing parquet", where=str(path))
    parquet = require("pyarrow.parquet", "data", "writing parquet", where=str(path))
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    columns = [("id", pa.string()), ("kind", pa.string()), ("image", pa.string()), ("conversations", pa.list_(turn))]
    schema, count, left = pa.schema(columns), 0, iter(conversations)
    with atomic_path(path) as part, parquet.ParquetWriter(part, schema) as writer:
        while rows := [{**to_llava(one), "kind": one.kind} for one in islice(left, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


FORMATS: Mapping[str, tuple[str, Callable[[Iterable[Conversation], Path], int]]] = {
    "llava": (".json", write_llava),
    "messages": (".jsonl", write_messages),
    "parquet": (".parquet", write_parquet),
}
"""Each format's file ending and writer."""


def to_json(row: Mapping[str, Any]) -> str:
    """One line of JSON, readable in any language."""
    return json.dumps(row, ensure_ascii=False)


def image_path(record: ImageRecord, images: Path | None) -> str:
    """What a conversation says of its image: the path below the folder `images`, without a folder the file name.

    Raises VistuneError for an image that is not below the folder.
    """
    if images is None:
        return record.image.name
    try:
        return record.image.relative_to(images).as_posix()
    except ValueError:
        fix = "name a folder that all images are below with --images"
        what = f"image {record.image} is not below {images}"
        raise VistuneError(what, where=record.origin or record.id, fix=fix) from None
