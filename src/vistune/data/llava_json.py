"""LLaVA's JSON, a list of {"id", "image"?, "conversations": [{"from", "value"}]}, as conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Conversation, Role, Turn

_SPEAKERS: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def read_conversations(path: Path, images: Path | None = None) -> list[Conversation]:
    """Every conversation of a LLaVA JSON file, checked; with `images`, also that each image file is there.

    Raises DataError with the file and the record: no list, a missing key, an unknown speaker, turns out of
    order, no answer, an empty text, not as many `<image>` as images, a missing image file.
    """
    records = _load(path)
    conversations = [_conversation(record, f"{path}: record {index}") for index, record in enumerate(records)]
    if images is not None:
        _check_images(conversations, images, path)
    return conversations


def _load(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), fix="check the stage's `data`") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=str(path)) from None
    if not isinstance(records, list):
        raise DataError(
            "not a list of records", where=str(path), fix='[{"id": …, "image": …, "conversations": […]}, …]'
        )
    if not records:
        raise DataError("there are no conversations in it", where=str(path))
    return records


def _conversation(record: Any, where: str) -> Conversation:
    if not isinstance(record, dict):
        raise DataError("not an object", where=where)
    for key in ("id", "conversations"):
        if key not in record:
            raise DataError(f"the key '{key}' is missing", where=where)
    where = f"{where} (id {record['id']})"
    images = _images(record.get("image"), where)
    if not isinstance(record["conversations"], list):
        raise DataError("'conversations' is not a list", where=where)
    turns = tuple(_turn(turn, f"{where}, turn {index}") for index, turn in enumerate(record["conversations"]))
    _check_turns(turns, len(images), where)
    return Conversation(str(record["id"]), turns, images, str(record.get("kind", "")))


def _images(value: Any, where: str) -> tuple[str, ...]:
    """The key `image`: one file's name or a list of them."""
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise DataError("'image' is not a file's name, nor a list of such", where=where)
    return tuple(names)


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise DataError("a turn needs the keys 'from' and 'value'", where=where)
    if turn["from"] not in _SPEAKERS:
        raise DataError(f"unknown speaker {turn['from']!r}", where=where, fix="use 'human' or 'gpt'")
    if not isinstance(turn["value"], str) or not turn["value"].strip():
        raise DataError("the text is empty", where=where)
    return Turn(_SPEAKERS[turn["from"]], turn["value"])


def _check_turns(turns: tuple[Turn, ...], images: int, where: str) -> None:
    if all(turn.role != "assistant" for turn in turns):
        raise DataError("no turn is the assistant's: there is nothing to learn", where=where)
    for index, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[index % 2]:
            raise DataError(f"turn {index} is out of order", where=where, fix="human and gpt take turns, human first")
    if turns[-1].role == "user":
        raise DataError("the last turn is the user's", where=where, fix="end with the assistant's answer")
    marks = sum(turn.text.count(IMAGE_TOKEN) for turn in turns if turn.role == "user")
    if marks and not images:
        raise DataError(f"{IMAGE_TOKEN} without an image", where=where, fix=f"add 'image' or remove {IMAGE_TOKEN}")
    if images and not marks:
        raise DataError(f"it has an image but no {IMAGE_TOKEN}", where=where, fix=f"put {IMAGE_TOKEN} in a human turn")
    if marks != images:
        fix = f"one {IMAGE_TOKEN} for each image"
        raise DataError(f"{IMAGE_TOKEN} stands {marks} times in it, for {images} image(s)", where=where, fix=fix)


def _check_images(conversations: list[Conversation], images: Path, path: Path) -> None:
    if not images.is_dir():
        raise DataError("there is no such folder", where=str(images), fix="check the stage's `images`")
    seen: set[str] = set()
    for conversation in conversations:
        for name in conversation.images:
            if name not in seen and not (images / name).is_file():
                raise DataError(f"its image {images / name} is missing", where=f"{path}: id {conversation.id}")
            seen.add(name)
