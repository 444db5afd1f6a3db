"""What the stage leaves behind: conversations in LLaVA's JSON, and JSON lines about each reply."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vistune.errors import VistuneError
from vistune.records import Conversation, ImageRecord

_SPEAKERS = {"user": "human", "assistant": "gpt"}


def to_llava(conversation: Conversation) -> dict[str, Any]:
    """A conversation as LLaVA's training data has it (`id`, `image`, `conversations`)."""
    images = conversation.images
    image: dict[str, Any] = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    turns = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in conversation.turns]
    return {"id": conversation.id, **image, "conversations": turns}


def write_llava(conversations: Iterable[Conversation], path: Path) -> int:
    """Write a JSON list, one conversation a line, without holding it in memory; returns how many there were."""
    count = 0
    with replacing(path) as file:
        for count, conversation in enumerate(conversations, 1):
            file.write(("[\n" if count == 1 else ",\n") + to_json(to_llava(conversation)))
        file.write("\n]\n" if count else "[]\n")
    return count


def to_json(row: Mapping[str, Any]) -> str:
    """One line of JSON, readable in any language."""
    return json.dumps(row, ensure_ascii=False)


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that appears under `path` whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        yield file
    os.replace(part, path)  # noqa: PTH105


def image_path(record: ImageRecord, images: Path | None) -> str:
    """The image's path below the folder `images`; without a folder, its file name."""
    if images is None:
        return record.image.name
    try:
        return record.image.relative_to(images).as_posix()
    except ValueError:
        raise VistuneError(f"image {record.image} is not below {images}", where=record.origin or record.id) from None
