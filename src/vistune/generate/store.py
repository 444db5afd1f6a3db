"""Every reply, on disk before anything is done with it, under the key of its request; and what it all cost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from vistune.errors import VistuneError
from vistune.generate.merge import copy_replies, other_store
from vistune.generate.price import NOTHING, Cost, Price
from vistune.llm.client import Reply

_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, text TEXT, model TEXT, usage TEXT, finish TEXT,
    tries INTEGER, pico INTEGER, tokens INTEGER, settled INTEGER);
CREATE TABLE IF NOT EXISTS failures (key BLOB PRIMARY KEY, reason TEXT, words TEXT, tries INTEGER, final INTEGER);
CREATE TABLE IF NOT EXISTS reservations (key BLOB PRIMARY KEY, pico INTEGER, tokens INTEGER);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT);
"""
_COLUMNS = "text, model, usage, finish, tries, pico, tokens, settled"


@dataclass(frozen=True, slots=True)
class Stored:
    """A reply, how often its request was sent, what that reply cost, and whether nobody need be asked again.

    `settled` is None until somebody has looked at the reply.
    """

    reply: Reply
    tries: int = 1
    cost: Cost = NOTHING
    settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply. `final`: the server refused it, so that it is not sent again."""

    reason: str
    words: str = ""
    tries: int = 1
    final: bool = False


class Store:
    """Replies by request key, in an SQLite file with a write-ahead log.

    What a method that is awaited has returned from survives the death of the process. What is written together is
    committed together: one commit per turn of the event loop, so the cost is shared without a delay.
    Raises VistuneError for a file that is no store, or is in use by another run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[tuple[str, Sequence[Any]]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}", uri=True, timeout=1, isolation_level=None, check_same_thread=False
        )
        try:
            # one run at a time: a second one would ask, and pay for, the same requests
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # survives the process; a power cut may cost the last ones
            self._open()
            self.spent = self._settle_reservations()
        except sqlite3.Error as error:
            self._db.close()
            raise self._explain(error) from None
        except VistuneError:
            self._db.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    @property
    def empty(self) -> bool:
        """Whether no request has been answered or given up yet."""
        there = "SELECT EXISTS (SELECT * FROM replies) OR EXISTS (SELECT * FROM failures)"
        return not self._db.execute(there).fetchone()[0]

    def get(self, key: str) -> Stored | None:
        """What is stored under `key`, if there is a reply."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (_blob(key),)).fetchone()
        if row is None:
            return None
        text, model, usage, finish, tries, pico, tokens, settled = row
        reply = Reply(text, model, json.loads(usage), finish)
        return Stored(reply, tries, Cost(pico, tokens), None if settled is None else bool(settled))

    def failure(self, key: str) -> Failure | None:
        """Why the request with this key got no reply when it was last sent; None if it got one or was never sent."""
        sql = "SELECT reason, words, tries, final FROM failures WHERE key = ?"
        row = self._db.execute(sql, (_blob(key),)).fetchone()
        return Failure(row[0], row[1], row[2], bool(row[3])) if row else None

    def note(self, name: str) -> str | None:
        """What `set_note` keeps under `name`."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def set_note(self, name: str, value: str) -> None:
        """Keep a fact about the run, at once."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    async def put(self, key: str, stored: Stored) -> None:
        """Store a reply; returns when it is committed. The first reply of a key stays."""
        reply, cost, blob = stored.reply, stored.cost, _blob(key)
        usage = json.dumps(dict(reply.usage))
        row = (blob, reply.text, reply.model, usage, reply.finish, stored.tries, cost.pico, cost.tokens, stored.settled)
        self._pending.append(("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
        self._pending.append(("DELETE FROM failures WHERE key = ?", (blob,)))
        self._charge(blob, cost)
        await self._commit_soon()

    def settle(self, key: str, settled: bool) -> None:
        """Note, with the next commit, whether the reply of this key is one to keep."""
        self._pending.append(("UPDATE replies SET settled = ? WHERE key = ?", (settled, _blob(key))))

    async def fail(self, key: str, failure: Failure, cost: Cost) -> None:
        """Note that a request is given up, and what it cost all the same."""
        blob = _blob(key)
        row = (blob, failure.reason, failure.words, failure.tries, failure.final)
        self._pending.append(("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", row))
        self._charge(blob, cost)
        await self._commit_soon()

    async def reserve(self, key: str, cost: Cost) -> None:
        """Set `cost` aside for a request that is about to be sent: if the run dies, it counts as spent."""
        row = (_blob(key), cost.pico, cost.tokens)
        self._pending.append(("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)", row))
        await self._commit_soon()

    async def charge(self, key: str, cost: Cost) -> None:
        """Note what sending a request cost that got no reply, in the place of what was set aside for it."""
        self._charge(_blob(key), cost)
        await self._commit_soon()

    def merge(self, folder: Path) -> None:
        """Take over the replies, failures and spending of another run; what is here already stays."""
        path = other_store(folder, self._path)
        try:
            name, (pico, tokens) = copy_replies(self._db, path)
        except sqlite3.Error as error:
            raise self._explain(error, path) from None
        before = json.loads(self.note(f"merged:{name}") or "[0, 0]")
        self.spent += Cost(pico - before[0], tokens - before[1])
        self.set_note(f"merged:{name}", json.dumps([pico, tokens]))
        self.set_note("spent", json.dumps([self.spent.pico, self.spent.tokens]))

    def reprice(self, price: Price) -> None:
        """Give what was received without a price its cost, at the higher price where the tokens are not told apart."""
        each = [price.of(1, 0), price.of(1, 0, 1), price.of(0, 1)]
        said = {name: f"json_extract(usage, '$.{name}')" for name in ("input", "output", "cached")}
        cached = f"min({said['input']}, coalesce({said['cached']}, 0))"
        cost = f"?1 * ({said['input']} - {cached}) + ?2 * {cached} + ?3 * {said['output']}"
        unpriced, total = self.spent.pico == 0, "SELECT coalesce(sum(pico), 0), coalesce(sum(tokens), 0) FROM replies"
        self._db.execute("BEGIN")
        before = self._db.execute(total).fetchone()
        self._db.execute(f"UPDATE replies SET pico = coalesce({cost}, ?4 * tokens) WHERE pico = 0", [*each, max(each)])
        after = self._db.execute(total).fetchone()
        lost = max(0, self.spent.tokens - after[1]) if unpriced else 0
        self.spent += Cost(after[0] - before[0] + max(each) * lost, 0)
        self.set_note("spent", json.dumps([self.spent.pico, self.spent.tokens]))
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Commit what a cancelled loop left over, and close the file."""
        try:
            self._write()
        finally:
            self._db.close()

    def _open(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        known = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version != _VERSION and known:
            fix = "use another folder"
            raise VistuneError("this store is of another version of vistune", where=str(self._path), fix=fix)
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))

    def _settle_reservations(self) -> Cost:
        """What was spent so far: a killed run's requests may have been answered, and paid for."""
        pico, tokens = json.loads(self.note("spent") or "[0, 0]")
        lost = self._db.execute("SELECT coalesce(sum(pico), 0), coalesce(sum(tokens), 0) FROM reservations").fetchone()
        spent = Cost(pico + lost[0], tokens + lost[1])
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM reservations")
        self.set_note("spent", json.dumps([spent.pico, spent.tokens]))
        self._db.execute("COMMIT")
        return spent

    def _charge(self, blob: bytes, cost: Cost) -> None:
        self._pending.append(("DELETE FROM reservations WHERE key = ?", (blob,)))
        self.spent += cost

    async def _commit_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        committed = loop.create_future()
        self._waiting.append(committed)
        await committed

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        error = None
        try:
            self._write()
        except VistuneError as caught:
            error = caught
        for committed in waiting:
            if committed.done():  # who waited was cancelled
                continue
            if error:
                committed.set_exception(error)
            else:
                committed.set_result(None)

    def _write(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
        try:
            self._db.execute("BEGIN")
            for sql, values in rows:
                self._db.execute(sql, values)
            self.set_note("spent", json.dumps([self.spent.pico, self.spent.tokens]))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _explain(self, error: sqlite3.Error, path: Path | None = None) -> VistuneError:
        busy = "locked" in str(error)
        what = "another run is using this folder" if busy else f"the store of replies cannot be used: {error}"
        return VistuneError(
            what, where=str(path or self._path), fix="wait for it, or use another folder" if busy else ""
        )


def _blob(key: str) -> bytes:
    return bytes.fromhex(key)
