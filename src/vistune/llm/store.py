"""Every reply on disk under the key of its request, before anything is done with it; and what all of them cost."""

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
from vistune.llm.budget import Cost, Price
from vistune.llm.client import Reply

FILE = "replies.sqlite"
"""The name of the store in a run's folder."""
_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, text TEXT, model TEXT, usage TEXT, finish TEXT,
    tries INTEGER, pico INTEGER, tokens INTEGER, settled INTEGER);
CREATE TABLE IF NOT EXISTS failures (key BLOB PRIMARY KEY, reason TEXT, words TEXT, tries INTEGER, final INTEGER);
CREATE TABLE IF NOT EXISTS reservations (key BLOB PRIMARY KEY, pico INTEGER, tokens INTEGER);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT);
"""
_SUMS = "coalesce(sum(pico), 0), coalesce(sum(tokens), 0)"
_COLUMNS = "text, model, usage, finish, tries, pico, tokens, settled"


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply, the number of times its request was sent, its cost, and whether no other attempt is to follow.

    `settled` is None until the reply has been looked at.
    """

    reply: Reply
    tries: int = 1
    cost: Cost = Cost()  # noqa: RUF009  # frozen
    settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply. `final`: the server refused it for good, so it is not sent again."""

    reason: str
    message: str = ""
    tries: int = 1
    final: bool = False


class Store:
    """Replies by request key, in an SQLite file with a write-ahead log.

    When an awaited method has returned, what it wrote survives the death of the process. All writes of one turn of the
    event loop share a commit. Raises VistuneError for a file that is not a store or that another run is using.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[tuple[str, Sequence[Any]]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}", uri=True, timeout=1, isolation_level=None, check_same_thread=False
        )
        try:
            # one run at a time: a second one would send, and pay for, the same requests
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last commits
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

    def get(self, key: str) -> StoredReply | None:
        """The reply stored under `key`, if there is one."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (_blob(key),)).fetchone()
        if row is None:
            return None
        text, model, usage, finish, tries, pico, tokens, settled = row
        reply = Reply(text, model, json.loads(usage), finish)
        return StoredReply(reply, tries, Cost(pico, tokens), None if settled is None else bool(settled))

    def failure(self, key: str) -> Failure | None:
        """Why the request with this key got no reply when it was last sent; None if it got one or was never sent."""
        sql = "SELECT reason, words, tries, final FROM failures WHERE key = ?"
        row = self._db.execute(sql, (_blob(key),)).fetchone()
        return Failure(row[0], row[1], row[2], bool(row[3])) if row else None

    def note(self, name: str) -> str | None:
        """The value that `set_note` stored under `name`."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def set_note(self, name: str, value: str) -> None:
        """Store a fact about the run, at once."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    async def put(self, key: str, stored: StoredReply) -> None:
        """Store a reply; returns when it is committed. The first reply of a key stays."""
        reply, cost, blob = stored.reply, stored.cost, _blob(key)
        usage = json.dumps(dict(reply.usage))
        row = (blob, reply.text, reply.model, usage, reply.finish, stored.tries, cost.pico, cost.tokens, stored.settled)
        self._pending.append(("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
        self._pending.append(("DELETE FROM failures WHERE key = ?", (blob,)))
        self._charge(blob, cost)
        await self._commit_soon()

    def settle(self, key: str, settled: bool) -> None:
        """Note, with the next commit, whether no other attempt follows the reply of this key."""
        self._pending.append(("UPDATE replies SET settled = ? WHERE key = ?", (settled, _blob(key))))

    async def fail(self, key: str, failure: Failure, cost: Cost) -> None:
        """Store that a request is given up, and what it cost nevertheless."""
        blob = _blob(key)
        row = (blob, failure.reason, failure.message, failure.tries, failure.final)
        self._pending.append(("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", row))
        self._charge(blob, cost)
        await self._commit_soon()

    async def reserve(self, key: str, cost: Cost) -> None:
        """Reserve `cost` for a request that is about to be sent; if the run dies, it counts as spent."""
        row = (_blob(key), cost.pico, cost.tokens)
        self._pending.append(("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)", row))
        await self._commit_soon()

    async def charge(self, key: str, cost: Cost) -> None:
        """Replace the reservation of a request that got no reply by what it cost."""
        self._charge(_blob(key), cost)
        await self._commit_soon()

    def merge(self, folder: Path) -> None:
        """Copy the replies, failures and spending of another run's folder; what is here already stays."""
        path = folder / FILE
        if not path.is_file():
            raise VistuneError("there are no replies to merge", where=str(folder), fix="name the folder of another run")
        if path.samefile(self._path):
            fix = "leave it out of --merge: the replies in --out are used anyway"
            raise VistuneError("a run cannot be merged into itself", where=str(folder), fix=fix)
        try:
            name, spent = self._copy(path)
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._explain(error, path) from None
        before = Cost(*json.loads(self.note(f"merged:{name}") or "[0, 0]"))
        self.spent += spent - before
        self.set_note(f"merged:{name}", json.dumps([spent.pico, spent.tokens]))
        self.set_note("spent", json.dumps([self.spent.pico, self.spent.tokens]))

    def _copy(self, path: Path) -> tuple[str, Cost]:
        """The other store's id and spending, with the reservations of a killed run."""
        self._db.execute("ATTACH DATABASE ? AS other", (f"file:{quote(str(path.absolute()))}?mode=rw",))
        try:
            self._db.execute("BEGIN")
            self._db.execute("INSERT OR IGNORE INTO replies SELECT * FROM other.replies ORDER BY rowid")
            self._db.execute("INSERT OR IGNORE INTO failures SELECT * FROM other.failures")
            self._db.execute("DELETE FROM failures WHERE key IN (SELECT key FROM replies)")
            notes = "SELECT name, value FROM other.meta WHERE name LIKE 'schema:%'"
            self._db.execute(f"INSERT OR IGNORE INTO meta {notes}")
            meta = dict(self._db.execute("SELECT name, value FROM other.meta WHERE name IN ('id', 'spent')").fetchall())
            reserved = f"SELECT {_SUMS} FROM other.reservations"
            lost = self._db.execute(reserved).fetchone()
            self._db.execute("COMMIT")
        finally:
            if not self._db.in_transaction:
                self._db.execute("DETACH DATABASE other")
        return meta["id"], Cost(*json.loads(meta.get("spent", "[0, 0]"))) + Cost(*lost)

    def reprice(self, price: Price) -> None:
        """Price the replies received without one, at the highest price where input and output tokens are not apart."""
        each = [price.pico(1, 0), price.pico(1, 0, 1), price.pico(0, 1)]
        said = {name: f"json_extract(usage, '$.{name}')" for name in ("input", "output", "cached")}
        cached = f"min({said['input']}, coalesce({said['cached']}, 0))"
        cost = f"?1 * ({said['input']} - {cached}) + ?2 * {cached} + ?3 * {said['output']}"
        unpriced, total = self.spent.pico == 0, f"SELECT {_SUMS} FROM replies"
        self._db.execute("BEGIN")
        before = self._db.execute(total).fetchone()
        self._db.execute(f"UPDATE replies SET pico = coalesce({cost}, ?4 * tokens) WHERE pico = 0", [*each, max(each)])
        after = self._db.execute(total).fetchone()
        lost = max(0, self.spent.tokens - after[1]) if unpriced else 0
        self.spent += Cost(after[0] - before[0] + max(each) * lost, 0)
        self.set_note("spent", json.dumps([self.spent.pico, self.spent.tokens]))
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Commit what a cancelled event loop left, and close the file."""
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
        """The spending so far, with a killed run's reservations, which the server may have charged for."""
        pico, tokens = json.loads(self.note("spent") or "[0, 0]")
        lost = self._db.execute(f"SELECT {_SUMS} FROM reservations").fetchone()
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
        error: Exception | None = None
        try:
            self._write()
        except Exception as caught:  # whatever it is, those who wait must learn of it
            error = caught
        for committed in waiting:
            if committed.done():  # the waiting task was cancelled
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
