"""A record of a data file as a `Conversation`, in any of the layouts that people have.

- LLaVA and ShareGPT: `conversations: [{"from": "human" | "gpt", "value": text}]`;
- OpenAI and TRL: `messages: [{"role": "user" | "assistant", "content": text or parts}]`, where parts are
  `{"type": "text", "text"}`, `{"type": "image"}` and `{"type": "image_url", "image_url": {"url"}}`;
- images beside them in `image` or `images` (LLaVA, LLaMA-Factory, ms-swift, `datasets`) or in the parts: a file's
  name, or an image that the record brings along: bytes, `{"bytes", "path"}`, `data:image/…;base64,…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Conversation, Role, Turn

_SPEAKERS: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"
}  # fmt: skip
NameImage = Callable[[Any, int], str]
"""Names an image by its value in the record and its place among the record's images."""


def to_conversation(row: Any, number: int, where: str, name_image: NameImage) -> Conversation:
    """The conversation of the record `row`, checked; `number` is its id if it has none.

    Raises DataError with `where`: a missing key, an unknown speaker, turns out of order, no answer, an empty text,
    not as many `<image>` as images.
    """
    if not isinstance(row, dict):
        raise DataError("not an object", where=where)
    known = row.get("id") is not None
    if known:
        where = f"{where} (id {row['id']})"
    turns = tuple(_turn(turn, index, where) for index, turn in enumerate(_messages(row, where)))
    if turns and turns[0].role == "system" and not turns[0].text.strip():
        turns = turns[1:]  # ShareGPT has empty ones
    _check_order(turns, where)
    values = image_values(row, where)
    _check_marks(turns, len(values), where)
    images = tuple(name_image(value, place) for place, value in enumerate(values))
    return Conversation(str(row["id"] if known else number), turns, images, str(row.get("kind") or ""))


def image_values(row: Mapping[str, Any], where: str) -> list[Any]:
    """The record's images as it has them, in order: those of `images` or `image`, else those of its parts."""
    found = row.get("images") if row.get("images") is not None else row.get("image")
    values = found if isinstance(found, list) else [] if found is None else [found]
    if not values:
        values = [value for part in _image_parts(row) if (value := _part_value(part)) is not None]
    for value in values:
        if isinstance(value, dict) and value.get("bytes") is None and not value.get("path"):
            raise DataError("an image has neither bytes nor a path", where=where)
        if not isinstance(value, (str, bytes, dict)) or not value:
            raise DataError("'image' is not a file's name", where=where)
    return values


def _messages(row: Mapping[str, Any], where: str) -> list[Any]:
    key = "conversations" if row.get("conversations") is not None else "messages"
    messages = row.get(key)
    if messages is None:
        raise DataError("the key 'conversations' is missing", where=where, fix="it, or 'messages', holds the turns")
    if not isinstance(messages, list):
        raise DataError(f"'{key}' is not a list", where=where)
    return messages


def _image_parts(row: Mapping[str, Any]) -> list[Any]:
    return [
        part
        for message in row.get("messages") or row.get("conversations") or ()
        if isinstance(content := message.get("content"), list)
        for part in content
        if part["type"] != "text"
    ]


def _part_value(part: Mapping[str, Any]) -> Any:
    """What the part says about its image, if it does: TRL's `image`, OpenAI's `image_url`, a `path` or `url`."""
    value = next((part[key] for key in ("image", "image_url", "path", "url") if part.get(key)), None)
    return value["url"] if isinstance(value, dict) and "url" in value else value


def _turn(turn: Any, index: int, where: str) -> Turn:
    speaker = text = None
    if isinstance(turn, dict):  # a table has every key in every turn, some without a value
        speaker = turn.get("from") or turn.get("role")
        text = turn.get("value") if turn.get("value") is not None else turn.get("content")
    if speaker is None or text is None:
        wanted = "'from' and 'value', or 'role' and 'content'"
        raise DataError(f"a turn needs the keys {wanted}", where=f"{where}, turn {index}")
    if speaker not in _SPEAKERS:
        fix = "use 'human' or 'gpt', 'user' or 'assistant'"
        raise DataError(f"unknown speaker {speaker!r}", where=f"{where}, turn {index}", fix=fix)
    if isinstance(text, list):
        text = _join(text, f"{where}, turn {index}")
    if not isinstance(text, str) or not (text.strip() or (speaker == "system" and index == 0)):
        raise DataError("the text is empty", where=f"{where}, turn {index}")
    return Turn(_SPEAKERS[speaker], text)


def _join(parts: list[Any], where: str) -> str:
    """Parts as one text, an image as `<image>`: each on a line of its own, as chat templates here join them."""
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url"):
            texts.append(IMAGE_TOKEN)
        else:
            raise DataError(f"a part is neither text nor an image: {str(part)[:80]}", where=where)
    joined = "\n".join(texts)
    shown = sum(part["type"] != "text" for part in parts)
    if shown and joined.count(IMAGE_TOKEN) > shown:
        raise DataError(f"a text beside an image says {IMAGE_TOKEN}", where=where, fix="say it otherwise")
    return joined


def _check_order(turns: tuple[Turn, ...], where: str) -> None:
    if all(turn.role != "assistant" for turn in turns):
        raise DataError("no turn is the assistant's: there is nothing to learn", where=where)
    first = int(turns[0].role == "system")
    for index, turn in enumerate(turns[first:]):
        if turn.role != ("user", "assistant")[index % 2]:
            fix = "human and gpt take turns, human first; a system's turn may only be the first"
            raise DataError(f"turn {first + index} is out of order", where=where, fix=fix)
    if turns[-1].role == "user":
        raise DataError("the last turn is the user's", where=where, fix="end with the assistant's answer")


def _check_marks(turns: tuple[Turn, ...], images: int, where: str) -> None:
    marks = sum(turn.text.count(IMAGE_TOKEN) for turn in turns if turn.role == "user")
    if marks == images:
        return
    if not images:
        raise DataError(f"{IMAGE_TOKEN} without an image", where=where, fix=f"add 'image' or remove {IMAGE_TOKEN}")
    if not marks:
        raise DataError(f"it has an image but no {IMAGE_TOKEN}", where=where, fix=f"put {IMAGE_TOKEN} in a human turn")
    fix = f"one {IMAGE_TOKEN} for each image"
    raise DataError(f"{IMAGE_TOKEN} stands {marks} times in it, for {images} image(s)", where=where, fix=fix)
