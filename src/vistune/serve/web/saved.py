"""A conversation as one file: JSON, or a page that shows it and holds the same JSON.

The JSON is the body of a chat completion, `{"model": NAME, "messages": [...]}` with images as data URLs: any client of
the API can send it, and `vistune chat` loads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vistune.errors import DataError
from vistune.pages import render
from vistune.serve.images import FORMATS, read_data_url
from vistune.serve.openai_api import ApiError, read_request
from vistune.serve.openai_api import Message as ApiMessage
from vistune.serve.web.messages import Message, answer_message, user_messages
from vistune.storage import atomic_text

_IN_PAGE = re.compile(r'<script type="application/json" id="conversation">(.*?)</script>', re.DOTALL)


def write_conversation(messages: Sequence[dict[str, Any]], model: str, path: Path) -> list[Path]:
    """Both files of a conversation of OpenAI messages, `path` with .html and .json."""
    page, data = (path.with_name(f"{path.name}.{kind}") for kind in ("html", "json"))
    shown = render("conversation.html", scripts=["conversation.js"], messages=messages, model=model)
    content = {"model": model, "messages": messages}
    for file, text in ((page, shown), (data, json.dumps(content, ensure_ascii=False, indent=1) + "\n")):
        with atomic_text(file) as written:
            written.write(text)
    return [page, data]


def read_conversation(file: Path, folder: Path) -> list[Message]:
    """The conversation of either file; its images are written to `folder`. Raises DataError."""
    text = file.read_text("utf-8", errors="replace")
    found = _IN_PAGE.search(text)
    try:
        request = read_request((found[1] if found else text).encode())
    except ApiError as error:
        fix = "open a file that was saved here, or by `vistune chat`"
        raise DataError(f"this is no saved conversation ({error.what})", where=file.name, fix=fix) from None
    return [
        shown for number, message in enumerate(request.messages, 1)
        for shown in _read(message, f"message {number}", folder)
    ]  # fmt: skip


def _read(message: ApiMessage, where: str, folder: Path) -> list[Message]:
    if isinstance(message.content, str) or message.content is None:
        parts, images = [message.content or ""], []
    else:
        parts = [part.text for part in message.content if part.type == "text"]
        urls = [part.image_url.url for part in message.content if part.type == "image_url"]
        images = [_write(read_data_url(url, where), folder, where) for url in urls]
    text = "\n".join(parts)
    if message.role == "assistant":
        return [answer_message(text)]
    role = "user" if message.role == "user" else "system"
    return [shown | {"role": role} for shown in user_messages(text, images)]


def _write(content: bytes, folder: Path, where: str) -> str:
    """The path of an image's new file, whose name ends as its content demands. Raises DataError for another file."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            ending = str(image.format).lower()
    except Exception:  # Pillow's decoders raise many types of errors for a corrupt file
        raise DataError(
            f"an image is corrupt, or its format is none of {', '.join(FORMATS)}",
            where=where,
            fix="remove the image from the file",
        ) from None
    path = folder / f"{hashlib.sha256(content).hexdigest()[:20]}.{ending}"
    path.write_bytes(content)
    return str(path)
