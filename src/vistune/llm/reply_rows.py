"""The rows of stored replies: each has a digest of what was received, so that damage is found, and others are saved."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vistune.llm.budget import Cost
from vistune.llm.client import Reply

COLUMNS = "key, text, model, usage, finish, pico, tokens, settled, digest"
PUT = f"INSERT OR IGNORE INTO replies ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Stores a row; the first one of a key stays."""
_ROWS = 4096 // 64
"""More replies than a page can hold: each has a key and a digest of 40 bytes."""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply, its cost, and whether no other attempt is to follow.

    `settled` is None until the reply has been looked at.
    """

    reply: Reply
    cost: Cost = Cost()  # noqa: RUF009  # frozen
    settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply. `final`: the server refused it for good, so it is not sent again."""

    reason: str
    message: str = ""
    tries: int = 1
    final: bool = False


def to_row(key: bytes, stored: StoredReply) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    reply, cost = stored.reply, stored.cost
    received = (key, reply.text, reply.model, json.dumps(dict(reply.usage)), reply.finish)
    return (*received, cost.pico, cost.tokens, stored.settled, _digest(*received))


def from_row(row: Any) -> StoredReply | None:
    """The reply of a row of `COLUMNS`; None if it is damaged. One from before there were digests has none."""
    key, text, model, usage, finish, pico, tokens, settled, stored = row
    typed = ((key, bytes), (text, str), (model, str), (usage, str), (finish, str), (pico, int), (tokens, int))
    if not all(isinstance(value, kind) for value, kind in typed):
        return None
    try:
        counts = json.loads(usage)
    except (ValueError, RecursionError):
        return None
    if not isinstance(counts, dict) or stored not in (None, _digest(key, text, model, usage, finish)):
        return None
    reply, state = Reply(text, model, counts, finish), None if settled is None else bool(settled)
    return StoredReply(reply, Cost(pico, tokens), state)


def copy_replies(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    """Copy the replies of a store into another one, whose own ones stay. Returns how many at least are damaged.

    They are read one by one, as a damaged page takes only its own ones with it.
    """
    known = [row[1] for row in source.execute("PRAGMA table_info(replies)")]
    columns = COLUMNS if "digest" in known else COLUMNS.replace("digest", "NULL")
    read = f"SELECT {columns} FROM replies NOT INDEXED WHERE rowid = ?"
    damaged = 0
    for number in range(1, _last(source) + 1):
        try:
            row = source.execute(read, (number,)).fetchone()
            whole = row is None or from_row(row) is not None
        except (sqlite3.DatabaseError, UnicodeError):
            whole = False
        damaged += not whole
        if whole and row:
            target.execute(PUT, row)
    return damaged


def _last(store: sqlite3.Connection) -> int:
    """The number of the last reply, by the table or by its index; by the room in the file if both are damaged."""
    for place in ("NOT INDEXED", "INDEXED BY sqlite_autoindex_replies_1"):
        with suppress(sqlite3.DatabaseError):
            [last] = store.execute(f"SELECT coalesce(max(rowid), 0) FROM replies {place}").fetchone()
            return int(last)
    [pages] = store.execute("PRAGMA page_count").fetchone()
    return int(pages) * _ROWS


def _digest(key: bytes, text: str, model: str, usage: str, finish: str) -> bytes:
    """The hash of what does not change after a reply was received; `usage` is JSON."""
    return hashlib.blake2b(key + "\0".join((text, model, usage, finish)).encode(), digest_size=8).digest()
