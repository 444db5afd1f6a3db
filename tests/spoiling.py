"""Files spoilt at random, as bytes or as values, for tests that no reader answers with a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**400, 0.7, float("inf"), float("nan"), "", " ", "a\0b", "\ud800", "\x1b[2J",
    "../../x.png", "x" * 5000, "http://[::1/x.jpg",
    "1e999", [], {}, [[]], {"": None}, [None] * 5, json.loads("[" * 300 + "]" * 300),
)  # fmt: skip
"""Values that no format expects, or not everywhere."""
_PIECES = (b"\0", b"\xff\xfe", b"\x80", b"[" * 20_000, b"{", b'"', b"\\", b"\n", b",", b"9" * 5_000, b"1e999", b"NaN",
           b"<", b"&a;", b"-", b"\x1b[2J", b"\xed\xa0\x80", b" " * 100)  # fmt: skip


def spoil(path: Path, draw: random.Random) -> None:
    """Change a file: a value in it if it is JSON or JSON lines, else, and sometimes all the same, its bytes."""
    path.write_bytes(spoilt(path.read_bytes(), draw))


def spoilt(content: bytes, draw: random.Random) -> bytes:
    """The content with other values if it is JSON or JSON lines, else, and sometimes all the same, with other bytes.

    Rarely it is in another encoding, or nothing is left of it.
    """
    way = draw.random()
    if way < 0.05:
        return draw.randbytes(draw.choice((0, 1, 20, 3000)))
    if way < 0.1:
        text = content.decode("utf-8", "replace")
        return text.encode(draw.choice(("utf-16", "utf-8-sig", "utf-7", "cp037", "latin-1")), "replace")
    return _other_values(content, draw) if way < 0.7 and _is_json(content) else spoilt_bytes(content, draw)


def spoilt_bytes(content: bytes, draw: random.Random) -> bytes:
    """The content, cut, doubled, with other bytes, or with pieces that parsers stumble over."""
    for _ in range(draw.choice((1, 1, 2, 5))):
        start = draw.randrange(len(content) + 1)
        stop = min(len(content), start + draw.choice((0, 1, 1, 4, 40)))
        content = draw.choice((
            content[:start],
            content[:start] + content[stop:],
            content[:start] + content[start:stop] * 2 + content[stop:],
            content[:start] + draw.randbytes(stop - start) + content[stop:],
            content[:start] + draw.choice(_PIECES) + content[stop:],
        ))  # fmt: skip
    return content


def _is_json(content: bytes) -> bool:
    """Whether all of it, or its first line, is JSON with values in it."""
    for text in (content, content.partition(b"\n")[0]):
        try:
            if isinstance(found := json.loads(text), dict | list) and found:
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _other_values(content: bytes, draw: random.Random) -> bytes:
    try:
        rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError:
        rows = [json.loads(content)]
    places = list(_places(rows))
    for _ in range(draw.choice((1, 1, 2, 4))):
        holder, key = draw.choice(places)
        try:
            holder[key] = draw.choice((*ODD, *(other[at] for other, at in draw.sample(places, min(3, len(places))))))
            text = "\n".join(json.dumps(row) for row in rows)
        except (LookupError, TypeError, RecursionError, ValueError):  # what another change removed, or a circle
            return content
    return text.encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
