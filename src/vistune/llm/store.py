"""Every reply on disk under the key of its request, before anything is done with it; and what all of them cost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
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
_COLUMNS = "key, text, model, usage, finish, pico, tokens, settled"


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


class Store(AbstractContextManager["Store"]):
    """Replies by request key, in an SQLite file with a write-ahead log; `spent` is the cost of all runs.

    When `put`, `fail`, `reserve` or `set_note` has returned, what it wrote survives the death of the process. All
    writes of one turn of the event loop share a commit. Raises VistuneError for a file that is not a store or that
    another run is using.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_commit: asyncio.Task[None] | None = None
        self._db = sqlite3.connect(_uri(path), uri=True, timeout=1, check_same_thread=False)
        try:
            with self._commit():
                # one run at a time: a second one would send, and pay for, the same requests
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last commits
                self._create_tables()
                # the server may have charged for what a killed run had in flight
                self.spent = self._spending("main")
                self._db.execute("DELETE FROM reservations")
        except VistuneError:
            self._db.close()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            with self._commit():
                pass
        finally:
            self._db.close()

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> StoredReply | None:
        """The reply stored under `key`, if there is one."""
        row = self._row(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", bytes.fromhex(key))
        if row is None:
            return None
        _, text, model, usage, finish, pico, tokens, settled = row
        reply = Reply(text, model, json.loads(usage), finish)
        return StoredReply(reply, Cost(pico, tokens), None if settled is None else bool(settled))

    def failure(self, key: str) -> Failure | None:
        """Why the request with this key got no reply when it was last sent; None if it got one or was never sent."""
        row = self._row("SELECT reason, words, tries, final FROM failures WHERE key = ?", bytes.fromhex(key))
        return Failure(row[0], row[1], row[2], bool(row[3])) if row else None

    def note(self, name: str) -> str | None:
        """The value that `set_note` stored under `name`."""
        row = self._row("SELECT value FROM meta WHERE name = ?", name)
        return str(row[0]) if row else None

    def set_note(self, name: str, value: str) -> None:
        """Store a fact about the run."""
        with self._commit():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    async def put(self, key: str, stored: StoredReply) -> None:
        """Store a reply. The first reply of a key stays."""
        reply, cost, blob = stored.reply, stored.cost, bytes.fromhex(key)
        usage = json.dumps(dict(reply.usage))
        row = (blob, reply.text, reply.model, usage, reply.finish, cost.pico, cost.tokens, stored.settled)
        self._write(f"INSERT OR IGNORE INTO replies ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
        self._write("DELETE FROM failures WHERE key = ?", blob)
        await self._committed()

    def settle(self, key: str, settled: bool) -> None:
        """Note, with the next commit, whether no other attempt follows the reply of this key."""
        self._write("UPDATE replies SET settled = ? WHERE key = ?", settled, bytes.fromhex(key))

    async def fail(self, key: str, failure: Failure) -> None:
        """Store that a request is given up."""
        row = (bytes.fromhex(key), failure.reason, failure.message, failure.tries, failure.final)
        self._write("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", *row)
        await self._committed()

    async def reserve(self, key: str, cost: Cost) -> None:
        """Reserve `cost` for a request that is about to be sent; if the run dies, it counts as spent."""
        row = (bytes.fromhex(key), cost.pico, cost.tokens)
        self._write("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)", *row)
        await self._committed()

    def charge(self, key: str, cost: Cost) -> None:
        """Replace a request's reservation, if any, by what it cost, with the next commit: `put` or `fail` follow."""
        self._write("DELETE FROM reservations WHERE key = ?", bytes.fromhex(key))
        self.spent += cost

    def merge(self, folder: Path) -> None:
        """Copy the replies, failures and spending of another run's folder; what is here already stays."""
        path = folder / FILE
        if not path.is_file():
            raise VistuneError("there are no replies to merge", where=str(folder), fix="name the folder of another run")
        if path.samefile(self._path):
            fix = "leave it out of --merge: the replies in --out are used anyway"
            raise VistuneError("a run cannot be merged into itself", where=str(folder), fix=fix)
        with self._commit(path):
            self._db.execute("ATTACH DATABASE ? AS other", (f"{_uri(path)}?mode=rw",))
            self._db.execute("INSERT OR IGNORE INTO replies SELECT * FROM other.replies ORDER BY rowid")
            self._db.execute("INSERT OR IGNORE INTO failures SELECT * FROM other.failures")
            self._db.execute("DELETE FROM failures WHERE key IN (SELECT key FROM replies)")
            notes = "SELECT name, value FROM other.meta WHERE name LIKE 'schema:%'"
            self._db.execute(f"INSERT OR IGNORE INTO meta {notes}")
            # a run that is merged a second time counts with what it spent since
            [name] = self._row("SELECT 'merged:' || value FROM other.meta WHERE name = 'id'")
            spent, before = self._spending("other"), Cost(*json.loads(self.note(name) or "[0, 0]"))
            self.spent += spent - before
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _dump(spent)))
        self._db.execute("DETACH DATABASE other")

    def reprice(self, price: Price) -> None:
        """Price the replies received without one, at the highest price where input and output tokens are not apart."""
        highest = max(price.pico(1, 0), price.pico(1, 0, 1), price.pico(0, 1))
        costs = []
        for row, text, tokens in self._db.execute("SELECT rowid, usage, tokens FROM replies WHERE pico = 0"):
            usage = json.loads(text)
            known = "input" in usage and "output" in usage
            pico = price.pico(usage["input"], usage["output"], usage.get("cached", 0)) if known else highest * tokens
            costs.append((pico, row))
        lost = 0
        if not self.spent.pico:  # tokens of replies that were lost on their way
            [stored] = self._row("SELECT coalesce(sum(tokens), 0) FROM replies")
            lost = max(0, self.spent.tokens - stored)
        self.spent += Cost(sum(pico for pico, _ in costs) + highest * lost)
        with self._commit():
            self._db.executemany("UPDATE replies SET pico = ? WHERE rowid = ?", costs)

    def _row(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()

    def _write(self, sql: str, *values: Any) -> None:
        with self._errors(self._path):
            self._db.execute(sql, values)

    def _create_tables(self) -> None:
        [version], [known] = self._row("PRAGMA user_version"), self._row("SELECT count(*) FROM sqlite_master")
        if version != _VERSION and known:
            fix = "use another folder"
            raise VistuneError("this store is of another version of vistune", where=str(self._path), fix=fix)
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))

    def _spending(self, base: str) -> Cost:
        """What the runs of a data base spent, with the reservations of a killed one."""
        spent = self._row(f"SELECT value FROM {base}.meta WHERE name = 'spent'")
        reserved = self._row(f"SELECT coalesce(sum(pico), 0), coalesce(sum(tokens), 0) FROM {base}.reservations")
        return Cost(*json.loads(spent[0] if spent else "[0, 0]")) + Cost(*reserved)

    async def _committed(self) -> None:
        """Returns when everything written so far is committed."""

        async def commit() -> None:
            self._next_commit = None
            with self._commit():
                pass

        if self._next_commit is None:
            self._next_commit = asyncio.create_task(commit())
        await asyncio.shield(self._next_commit)  # of other requests, too: a cancelled one must not end it

    @contextmanager
    def _commit(self, path: Path | None = None) -> Iterator[None]:
        """Commit what is written inside, what waits for a commit, and the spending; if anything fails, none of it."""
        with self._errors(path or self._path), self._db:
            yield
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('spent', ?)", (_dump(self.spent),))

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            busy = "locked" in str(error)
            what = "another run is using this folder" if busy else f"the store of replies cannot be used: {error}"
            fix = "wait for it, or use another folder" if busy else ""
            raise VistuneError(what, where=str(path), fix=fix) from None


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"


def _dump(cost: Cost) -> str:
    return json.dumps([cost.pico, cost.tokens])
