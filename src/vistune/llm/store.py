"""Every reply on disk under the key of its request, before anything is done with it; and what all of them cost."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vistune.errors import StorageError, VistuneError
from vistune.llm.budget import Cost, Price
from vistune.llm.reply_rows import COLUMNS, PUT, Failure, StoredReply, copy_replies, from_row, to_row

FILE = "replies.sqlite"
"""The name of the store in a run's folder."""
_VERSION = 2
_TABLES = (
    "replies (key BLOB PRIMARY KEY, text TEXT, model TEXT, usage TEXT, finish TEXT, tries INTEGER, pico INTEGER, "
    "tokens INTEGER, settled INTEGER, digest BLOB)",
    "failures (key BLOB PRIMARY KEY, reason TEXT, words TEXT, tries INTEGER, final INTEGER)",
    "reservations (key BLOB PRIMARY KEY, pico INTEGER, tokens INTEGER)",
    "meta (name TEXT PRIMARY KEY, value TEXT)",
)
_DAMAGED = "vistune generate … --out OTHER --merge {folder} takes over what is whole; or move the file away"
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class Store(AbstractContextManager["Store"]):
    """Replies by request key, in an SQLite file with a write-ahead log; `spent` is the cost of all runs.

    When `put`, `fail`, `reserve` or `set_note` has returned, what it wrote survives the death of the process and a
    power cut, and is in a copy of the file alone. All writes of one turn of the event loop share a commit. Raises
    VistuneError for a file that is damaged, is not a store, or that another run is using, StorageError if the disk is
    full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_commit: asyncio.Task[None] | None = None
        with self._errors(path):
            self._db = sqlite3.connect(_uri(path), uri=True, timeout=1, check_same_thread=False)
        try:
            with self._commit():
                # one run at a time: a second one would send, and pay for, the same requests
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA wal_autocheckpoint = 1")  # a copy without the log has all commits
                self._check_pages()
                self._create_tables()
                # the server may have charged for what a killed run had in flight
                self.spent = self._spending(self._db)
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
        row = self._row(f"SELECT {COLUMNS} FROM replies WHERE key = ?", bytes.fromhex(key))
        if row is None:
            return None
        if (stored := from_row(row)) is None:
            raise self._damaged(f"the reply {key} is damaged")
        return stored

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
        blob = bytes.fromhex(key)
        self._write(PUT, *to_row(blob, stored))
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

    def merge(self, folder: Path) -> int:
        """Copy the replies, failures and spending of another run's folder; what is here already stays.

        Returns how many replies at least are damaged and left out.
        """
        path = folder / FILE
        if not path.is_file():
            raise VistuneError("there are no replies to merge", where=str(folder), fix="name the folder of another run")
        if path.samefile(self._path):
            fix = "leave it out of --merge: the replies in --out are used anyway"
            raise VistuneError("a run cannot be merged into itself", where=str(folder), fix=fix)
        with self._commit(path), closing(sqlite3.connect(f"{_uri(path)}?mode=rw", uri=True, timeout=1)) as other:
            lost = copy_replies(other, self._db)
            with suppress(sqlite3.DatabaseError):  # damaged: these requests are sent again
                failures = other.execute("SELECT * FROM failures").fetchall()
                self._db.executemany("INSERT OR IGNORE INTO failures VALUES (?, ?, ?, ?, ?)", failures)
            self._db.execute("DELETE FROM failures WHERE key IN (SELECT key FROM replies)")
            notes = other.execute("SELECT name, value FROM meta WHERE name LIKE 'schema:%'").fetchall()
            self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", notes)
            # a run that is merged a second time counts with what it spent since
            own = "SELECT 'merged:' || coalesce((SELECT value FROM meta WHERE name = 'id'), ?)"  # it may be lost
            [name] = other.execute(own, (str(folder.absolute()),)).fetchone()
            spent, before = self._spending(other), Cost(*json.loads(self.note(name) or "[0, 0]"))
            self.spent += spent - before
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _dump(spent)))
        return lost

    def reprice(self, price: Price) -> None:
        """Price the replies received without one, at the highest price where input and output tokens are not apart."""
        highest = max(price.pico(1, 0), price.pico(1, 0, 1), price.pico(0, 1))
        costs = []
        for row, text, tokens in self._db.execute("SELECT rowid, usage, tokens FROM replies WHERE pico = 0"):
            try:
                usage = dict(json.loads(text))
            except (ValueError, TypeError):
                raise self._damaged("the usage of a reply is damaged") from None
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
        with self._errors(self._path):
            return self._db.execute(sql, values).fetchone()

    def _write(self, sql: str, *values: Any) -> None:
        with self._errors(self._path):
            self._db.execute(sql, values)

    def _check_pages(self) -> None:
        """Raises VistuneError for a file whose pages are damaged, before anything is written to it."""
        [found] = self._row("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._damaged(f"the store of replies is damaged: {' '.join(found.split())}")

    def _damaged(self, what: str) -> VistuneError:
        return VistuneError(what, where=str(self._path), fix=_DAMAGED.format(folder=self._path.parent))

    def _create_tables(self) -> None:
        [version], [known] = self._row("PRAGMA user_version"), self._row("SELECT count(*) FROM sqlite_master")
        if version != _VERSION and known:
            fix = "use another folder"
            raise VistuneError("this store is of another version of vistune", where=str(self._path), fix=fix)
        self._db.execute("BEGIN")  # a run that is killed, or a full disk, leaves all of it or nothing
        for table in _TABLES:
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        columns = [row[1] for row in self._db.execute("PRAGMA table_info(replies)")]
        if missing := {*COLUMNS.split(", "), "tries"} - {*columns, "digest"}:
            what = f"this is no store of replies: the column {missing.pop()} is missing"
            raise VistuneError(what, where=str(self._path), fix="use another folder")
        if "digest" not in columns:  # a store from before there were digests
            self._db.execute("ALTER TABLE replies ADD COLUMN digest BLOB")
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))

    def _spending(self, store: sqlite3.Connection) -> Cost:
        """What the runs of a store spent, with the reservations of a killed one."""
        spent = store.execute("SELECT value FROM meta WHERE name = 'spent'").fetchone()
        [reserved] = store.execute("SELECT coalesce(sum(pico), 0), coalesce(sum(tokens), 0) FROM reservations")
        try:
            return Cost(*json.loads(spent[0] if spent else "[0, 0]")) + Cost(*reserved)
        except (ValueError, TypeError):
            raise self._damaged(f"the amount spent is damaged: {spent[0]!r}") from None

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
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: names of tables that are damaged
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _FULL:
                what = f"cannot be written: {error}; the disk has {shutil.disk_usage(path.parent).free:,} bytes left"
                fix = "free some space and run the same command again: no stored reply is lost"
                raise StorageError(what, where=str(path), fix=fix) from None
            if "locked" in str(error):
                what, fix = "another run is using this folder", "wait for it, or use another folder"
            elif code == sqlite3.SQLITE_CANTOPEN:
                what, fix = f"the store of replies cannot be opened: {error}", "choose a folder that can be written"
            else:
                what = f"the store of replies cannot be used: {error}"
                own = path == self._path
                fix = _DAMAGED.format(folder=path.parent) if own else "leave it out of --merge: none can be taken over"
            raise VistuneError(what, where=str(path), fix=fix) from None


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"


def _dump(cost: Cost) -> str:
    return json.dumps([cost.pico, cost.tokens])
