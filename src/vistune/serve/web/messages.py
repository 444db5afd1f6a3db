"""Gradio's chat messages, and OpenAI's that they mean. Files are those that Gradio has accepted as uploads."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vistune.errors import DataError

_FILE = {"meta": {"_type": "gradio.FileData"}}
_REMARK, _WHOLE = "remark", "whole"
Message = dict[str, Any]
"""A message of a Chatbot: its role, and its content as a list of texts and files."""


def user_messages(text: str, files: Iterable[str]) -> list[Message]:
    """The user's images, by the paths of their files, and the text, each a message: Gradio edits no other."""
    images = [{"type": "file", "file": {"path": path, "mime_type": _mime_type(path)} | _FILE} for path in files]
    return [{"role": "user", "content": [part]} for part in [*images, *([_text(text)] if text.strip() else [])]]


def answer_message(text: str, *, whole: bool = False) -> Message:
    """An answer, as far as it has come or `whole`."""
    return {"role": "assistant", "content": [_text(text)], "metadata": {"id": _WHOLE} if whole else {}}


def remark(text: str) -> Message:
    """What the page says of an answer, or in its place; no model sees it."""
    return answer_message(text) | {"metadata": {"id": _REMARK}}


def is_remark(message: Message) -> bool:
    """Whether it is the page's own."""
    return (message.get("metadata") or {}).get("id") == _REMARK


def is_whole(message: Message) -> bool:
    """Whether it is an answer that was neither stopped nor cut off."""
    return (message.get("metadata") or {}).get("id") == _WHOLE


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}  # a bare string would lose its indentation


def text_of(message: Message) -> str:
    """The text that was typed, or the answer."""
    return "\n".join(part["text"] for part in message["content"] if part["type"] == "text")


def files_of(message: Message) -> list[str]:
    """The paths of a message's images."""
    return [part["file"]["path"] for part in message["content"] if part["type"] == "file"]


def questions(history: Sequence[Message]) -> list[int]:
    """The places of the messages with which the user's turns end."""
    roles = [one["role"] for one in history] + ["assistant"]
    return [place for place in range(len(history)) if roles[place] == "user" != roles[place + 1]]


def to_openai(history: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation as OpenAI's messages, images as data URLs; a question without an answer goes with the next.

    Raises DataError for an image whose file is gone.
    """
    found: list[dict[str, Any]] = []
    for message in history:
        if is_remark(message):
            continue
        text = [_text(text_of(message))] if text_of(message) else []
        if message["role"] != "user":
            found += [{"role": message["role"], "content": one["text"]} for one in text]
            continue
        images = [{"type": "image_url", "image_url": {"url": _as_url(path)}} for path in files_of(message)]
        if found and found[-1]["role"] == "user":
            found[-1]["content"] += [*images, *text]
        else:
            found.append({"role": "user", "content": [*images, *text]})
    return found


def image_hash(path: str) -> str:
    """The SHA-256 of an image's file. Raises DataError if it is gone."""
    return hashlib.sha256(_read(Path(path))).hexdigest()


def _mime_type(path: str) -> str:
    return f"image/{Path(path).suffix.lower().removeprefix('.').replace('jpg', 'jpeg')}"


def _as_url(path: str) -> str:
    return f"data:{_mime_type(path)};base64,{base64.b64encode(_read(Path(path))).decode()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        what = "an image of this conversation is no longer on the server: start a new one, and send it again"
        raise DataError(what, fix="start a new conversation") from None
