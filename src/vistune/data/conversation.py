"""A row of a data file as a `Conversation`.

- turns as `vistune.data.layouts` finds them: `{"from": "human" | "gpt", "value": text}` (LLaVA, ShareGPT), perhaps
  with a key `system` of the row, or `{"role": "user" | "assistant", "content": text or parts}` (OpenAI, TRL), where
  parts are `{"type": "text", "text"}`, `{"type": "image"}` and `{"type": "image_url", "image_url": {"url"}}`;
- images beside them in `image` or `images` (LLaVA, LLaMA-Factory, ms-swift, `datasets`) or in the parts: a file's
  name, or the image itself: bytes, `{"bytes", "path"}`, `data:image/…;base64,…`. Where no `<image>` marks their place
  they stand before the first question, as in TRL.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from vistune.data.layouts import KEYS, is_preference, rejected_of, turns_of
from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Conversation, Role, Turn

COLUMNS = ("id", "kind", "system", "image", "images", *KEYS)
"""The keys of a row that are read."""
_SPEAKERS: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"
}  # fmt: skip
_SWITCHES = ("loss", "train", "weight")
"""Keys of a turn that say whether it is learned: ms-swift's `loss`, axolotl's `train`, OpenAI's `weight`."""
_LONGEST_NAME = 4096
"""Characters of the longest file name; anything longer is data."""
NameImage = Callable[[Any, int], str]
"""Names an image by its value in the row and its place among the row's images."""


def to_conversation(row: Any, number: int, where: str, name_image: NameImage) -> Conversation:
    """The conversation of a row, checked; `number` is its id if it has none.

    Raises DataError with `where`: a missing key, an unknown speaker, turns out of order, no answer, an empty text,
    a key that would change what is learned, not as many `<image>` as images.
    """
    if not isinstance(row, dict):
        raise DataError("not an object", where=where)
    known = row.get("id") is not None
    if known:
        where = f"{where} (id {row['id']})"
    turns = tuple(_turn(turn, index, where) for index, turn in enumerate(turns_of(row, where)))
    if turns and turns[0].role == "system" and not turns[0].text.strip():
        turns = turns[1:]  # ShareGPT has empty ones
    turns = (*_system(row, turns, where), *turns)
    _check_order(turns, where)
    values = image_values(row, where)
    turns = _with_marks(turns, len(values), where)
    images = tuple(name_image(value, place) for place, value in enumerate(values))
    rejected = _rejected(row, turns[-1], where) if is_preference(row) else ""
    return Conversation(str(row["id"] if known else number), turns, images, str(row.get("kind") or ""), rejected)


def _rejected(row: Mapping[str, Any], chosen: Turn, where: str) -> str:
    """The text of the rejected answer."""
    turn = _turn(rejected_of(row, where), 0, f"{where}, 'rejected'")
    if turn.role != "assistant":
        raise DataError("'rejected' is not the assistant's", where=where)
    if turn.text == chosen.text:
        raise DataError("'chosen' and 'rejected' are the same", where=where, fix="remove the record")
    return turn.text


def image_values(row: Mapping[str, Any], where: str) -> list[Any]:
    """The row's images as it has them, in order: those of `images` or `image`, else those of its parts."""
    found = row.get("images") if row.get("images") is not None else row.get("image")
    values = found if isinstance(found, list) else [] if found is None else [found]
    if not values:
        values = [value for part in _image_parts(row, where) if (value := _part_value(part)) is not None]
    for value in values:
        if isinstance(value, dict) and value.get("bytes") is None and not value.get("path"):
            raise DataError("an image has neither bytes nor a path", where=where)
        if not isinstance(value, str | bytes | dict) or not value:
            raise DataError("'image' is not a file's name", where=where)
        name: Any = file_name(value)
        if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_NAME):
            what = f"'image' is not a file's name: {str(name)[:40]}…"
            raise DataError(what, where=where, fix="write an image's bytes as data:image/png;base64,…")
    return values


def file_name(value: Any) -> str | None:
    """The file that an image value names; None if the row embeds the image."""
    if isinstance(value, dict):
        name: str | None = value["path"] if value.get("bytes") is None else None
        return name
    return value if isinstance(value, str) and not value.startswith("data:") else None


def local_path(name: str) -> str:
    """A file's name as this system writes it: of a `file://` address the path, slashes for Windows' backslashes."""
    return (unquote(name[7:]) if name.startswith("file://") else name).replace("\\", "/")


def embedded_image(value: Any, where: str) -> bytes:
    """The bytes of an image that a row embeds. Raises DataError for broken base64."""
    found = value["bytes"] if isinstance(value, dict) else value
    if isinstance(found, str):
        try:
            found = base64.b64decode(found.partition(";base64,")[2], validate=True)
        except binascii.Error as error:
            raise DataError(f"not base64: {error}", where=where) from None
    return bytes(found)


def _system(row: Mapping[str, Any], turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """The system turn that the key `system` holds (ShareGPT in LLaMA-Factory and ms-swift)."""
    system = row.get("system")
    if system is None or system == "":
        return ()
    if not isinstance(system, str):
        raise DataError("'system' is not a text", where=where)
    if turns and turns[0].role == "system":
        raise DataError("it has both a key 'system' and a system turn", where=where, fix="remove one of them")
    return (Turn("system", system),) if system.strip() else ()


def _image_parts(row: Mapping[str, Any], where: str) -> list[Any]:
    return [
        part
        for message in turns_of(row, where)
        if isinstance(content := message.get("content"), list)
        for part in content
        if part["type"] != "text"
    ]


def _part_value(part: Mapping[str, Any]) -> Any:
    """What the part says of its image, if anything: TRL's `image`, OpenAI's `image_url`, a `path` or `url`."""
    value = next((part[key] for key in ("image", "image_url", "path", "url") if part.get(key)), None)
    return value["url"] if isinstance(value, dict) and "url" in value else value


def _turn(turn: Any, index: int, where: str) -> Turn:
    where = f"{where}, turn {index}"
    speaker = text = None
    if isinstance(turn, dict):  # a table has every key in every turn, some without a value
        speaker = turn.get("from") or turn.get("role")
        text = turn.get("value") if turn.get("value") is not None else turn.get("content")
    if speaker is None or text is None:
        raise DataError("a turn needs the keys 'from' and 'value', or 'role' and 'content'", where=where)
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        fix = "use 'human' or 'gpt', 'user' or 'assistant'"
        raise DataError(f"unknown speaker {speaker!r}", where=where, fix=fix)
    if isinstance(text, list):
        text = _join(text, where)
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)  # a count, a year
    if not isinstance(text, str) or not (text.strip() or (speaker == "system" and index == 0)):
        raise DataError("the text is empty", where=where, fix="write it, or remove the record")
    if not _is_whole(text):
        fix = "write the character as a whole, or remove it"
        raise DataError("the text has half of a surrogate pair, which is no character", where=where, fix=fix)
    role = _SPEAKERS[speaker]
    return Turn(role, text, _learned(turn, role, where))


def _is_whole(text: str) -> bool:
    """Whether UTF-8 can spell the text; JSON can spell halves of surrogate pairs."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _learned(turn: Mapping[str, Any], role: Role, where: str) -> bool:
    """Whether an answer is learned. Raises DataError for a weight between 0 and 1, and for a question to learn."""
    switches = {key: turn[key] for key in _SWITCHES if turn.get(key) is not None}
    for key, value in switches.items():
        if value not in (0, 1) or (value == 1 and role != "assistant"):
            what = "only answers are learned" if value == 1 else "an answer is learned (true, 1) or not (false, 0)"
            raise DataError(f"'{key}': {value!r} is not supported: {what}", where=where, fix=f"remove the key '{key}'")
    return role != "assistant" or all(switches.values())


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
        fix = "write it in another way"
        raise DataError(f"a text part contains {IMAGE_TOKEN} beside an image part", where=where, fix=fix)
    return joined


def _check_order(turns: tuple[Turn, ...], where: str) -> None:
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not any(turn.learned for turn in answers):
        what = "no answer is learned, by 'loss', 'train' or 'weight'" if answers else "no turn is the assistant's"
        raise DataError(f"{what}: there is nothing to learn", where=where)
    first = int(turns[0].role == "system")
    for index, turn in enumerate(turns[first:]):
        if turn.role != ("user", "assistant")[index % 2]:
            fix = "human and gpt take turns, human first; only the first turn may be the system's"
            raise DataError(f"turn {first + index} is out of order", where=where, fix=fix)
    if turns[-1].role == "user":
        raise DataError("the last turn is the user's", where=where, fix="end with the assistant's answer")


def _with_marks(turns: tuple[Turn, ...], images: int, where: str) -> tuple[Turn, ...]:
    """The turns with an `<image>` for each image: where nothing marks their place, before the first question."""
    marks = sum(turn.text.count(IMAGE_TOKEN) for turn in turns if turn.role == "user")
    if marks == images:
        return turns
    if not images:
        raise DataError(f"{IMAGE_TOKEN} without an image", where=where, fix=f"add 'image' or remove {IMAGE_TOKEN}")
    if marks:
        fix = f"one {IMAGE_TOKEN} for each image"
        raise DataError(f"{IMAGE_TOKEN} stands {marks} times in it, for {images} image(s)", where=where, fix=fix)
    first = next(index for index, turn in enumerate(turns) if turn.role == "user")
    marked = replace(turns[first], text=f"{IMAGE_TOKEN}\n" * images + turns[first].text)
    return (*turns[:first], marked, *turns[first + 1 :])
