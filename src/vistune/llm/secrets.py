"""Keys and passwords: reading them from the environment, and hiding them in everything shown or stored."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote

from vistune.errors import ClientError

MIN_LENGTH = 6
"""Characters of a secret; shorter values (`EMPTY`, `none`) are none, and hiding them would mangle ordinary words."""


class Secrets:
    """Texts to hide, in every form in which a server may repeat them."""

    def __init__(self, values: Iterable[str]) -> None:
        plain = {value for value in values if len(value) >= MIN_LENGTH}
        encoded = {b64encode(value.encode()).decode() for value in plain}
        quoted = {quote(value, safe="") for value in plain}
        escaped = {json.dumps(value)[1:-1] for value in plain}
        self._hidden = sorted(plain | encoded | quoted | escaped, key=len, reverse=True)
        self._bytes = [value.encode() for value in self._hidden]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._hidden)} hidden)"

    def hide(self, text: str) -> str:
        """The text with `***` in place of every secret."""
        for value in self._hidden:
            text = text.replace(value, "***")
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """The data with `***` in place of every secret."""
        for value in self._bytes:
            if value in data:
                data = data.replace(value, b"***")
        return data


def key_from_environment(name: str, *, optional: bool = False) -> str:
    """The key in the environment variable `name`; empty if it is not set but optional, else raises ClientError.

    The error does not repeat a name that is no variable's: it may be the key itself, given by mistake.
    """
    key = os.environ.get(name, "").strip()
    if key or optional:
        return key
    if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name):
        raise ClientError(
            "--key-env is not the name of an environment variable",
            fix="give the variable's name, as in --key-env OPENAI_API_KEY, never the key itself",
        )
    raise ClientError(f"the environment variable {name} is not set", fix=f"export {name}=YOUR_KEY")
