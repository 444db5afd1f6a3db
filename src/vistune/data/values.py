"""What a record says an image is: a file's name, or the image itself."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from vistune.errors import DataError


def file_name(value: Any) -> str | None:
    """The image file that the record names; nothing if the record brings the image along."""
    if isinstance(value, dict):
        name: str | None = value["path"] if value.get("bytes") is None else None
        return name
    return value if isinstance(value, str) and not value.startswith("data:") else None


def content(value: Any, where: str) -> bytes:
    """The bytes of an image that a record brings along. Raises DataError for broken base64."""
    found = value["bytes"] if isinstance(value, dict) else value
    if isinstance(found, str):
        try:
            found = base64.b64decode(found.partition(";base64,")[2], validate=True)
        except binascii.Error as error:
            raise DataError(f"not base64: {error}", where=where) from None
    return bytes(found)
