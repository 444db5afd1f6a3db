"""Every reply, on disk before anything is done with it, under the key of its request."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from types import TracebackType

from vistune.clients.base import Reply
from vistune.errors import VistuneError

_Row = tuple[str, str, str, str]


class Store:
    """Replies by request key, in an SQLite file with a write-ahead log.

    What `put` has returned from survives the death of the process. Replies that arrive together are
    committed together: one commit per turn of the event loop, so the cost is shared without a delay.
    Raises VistuneError for a file that is no store, or is in use by another run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[_Row] = []
        self._committed: asyncio.Future[None] | None = None
        self._db = sqlite3.connect(path, timeout=1, isolation_level=None)
        try:
            # one run at a time: a second one would ask, and pay for, the same requests
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # survives the process; a power cut may cost the last ones
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replies"
                " (key TEXT PRIMARY KEY, text TEXT, model TEXT, usage TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            self._db.close()
            raise self._explain(error) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM replies WHERE key = ?", (key,)).fetchone() is not None

    def get(self, key: str) -> Reply | None:
        """The reply stored under `key`, if there is one."""
        row = self._db.execute("SELECT text, model, usage FROM replies WHERE key = ?", (key,)).fetchone()
        return Reply(row[0], row[1], json.loads(row[2])) if row else None

    async def put(self, key: str, reply: Reply) -> None:
        """Store a reply; returns when it is committed. The first reply of a key stays."""
        if self._committed is None:
            loop = asyncio.get_running_loop()
            self._committed = loop.create_future()
            loop.call_soon(self._commit)
        self._pending.append((key, reply.text, reply.model, json.dumps(dict(reply.usage))))
        await asyncio.shield(self._committed)  # one waiter's cancellation must not reach the others

    def close(self) -> None:
        """Commit what a cancelled loop left over, and close the file."""
        try:
            self._write()
        finally:
            self._db.close()

    def _commit(self) -> None:
        done, self._committed = self._committed, None
        assert done is not None
        try:
            self._write()
        except VistuneError as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _write(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _explain(self, error: sqlite3.Error) -> VistuneError:
        busy = "locked" in str(error)
        what = "another run is using this folder" if busy else f"the store of replies cannot be used: {error}"
        return VistuneError(what, where=str(self._path), fix="wait for it, or use another folder" if busy else "")
