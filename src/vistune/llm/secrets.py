"""Keys and passwords: where they come from, and that nothing which is shown or stored holds one."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote

from vistune.errors import ClientError

SHORTEST = 6
"""Characters; what is shorter (`EMPTY`, `none`) is no secret, and hiding it would mangle ordinary words."""


class Secrets:
    """Texts to hide, in every form in which a server may say them back."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {value for value in values if len(value) >= SHORTEST}
        coded = {b64encode(value.encode()).decode() for value in found}
        quoted = {quote(value, safe="") for value in found}
        escaped = {json.dumps(value)[1:-1] for value in found}
        self._hidden = sorted(found | coded | quoted | escaped, key=len, reverse=True)
        self._bytes = [value.encode() for value in self._hidden]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._hidden)} hidden)"

    def hide(self, text: str) -> str:
        """The text with `***` in place of every secret."""
        for value in self._hidden:
            text = text.replace(value, "***")
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """The same for what has not been decoded yet."""
        for value in self._bytes:
            if value in data:
                data = data.replace(value, b"***")
        return data


def key_from_environment(name: str, *, optional: bool = False) -> str:
    """The key in the environment variable `name`, or none if it is optional; else a ClientError.

    The error does not repeat a name that is none: it may be the key itself, given by mistake.
    """
    key = os.environ.get(name, "").strip()
    if key or optional:
        return key
    if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name):
        raise ClientError(
            "there is no environment variable of the name that was given for the key",
            fix="give the variable's name, as in --key-env OPENAI_API_KEY, and never the key itself",
        )
    raise ClientError(f"the environment variable {name} has no key", fix=f"export {name}=YOUR_KEY")
