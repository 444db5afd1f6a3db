"""The replies of several runs, of the shards of one say, brought together."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

from vistune.errors import VistuneError


def other_store(folder: Path, own: Path) -> Path:
    """The file of replies in the folder of another run. Raises VistuneError if there is none, or it is our `own`."""
    path = folder / "replies.sqlite"
    if not path.is_file():
        raise VistuneError("there are no replies to merge", where=str(folder), fix="name the folder of another run")
    if path.samefile(own):
        fix = "leave it out of --merge: what is in --out is taken as it is"
        raise VistuneError("a run cannot be merged into itself", where=str(folder), fix=fix)
    return path


def copy_replies(db: sqlite3.Connection, path: Path) -> tuple[str, tuple[int, int]]:
    """Copy the replies and failures of another run's store into an open one: what is there already stays.

    Returns the other store's id and its spending in picodollars and tokens, what a killed run set aside included.
    """
    db.execute("ATTACH DATABASE ? AS other", (f"file:{quote(str(path.absolute()))}?mode=rw",))
    try:
        db.execute("BEGIN")
        db.execute("INSERT OR IGNORE INTO replies SELECT * FROM other.replies ORDER BY rowid")
        db.execute("INSERT OR IGNORE INTO failures SELECT * FROM other.failures")
        db.execute("DELETE FROM failures WHERE key IN (SELECT key FROM replies)")
        name = db.execute("SELECT value FROM other.meta WHERE name = 'id'").fetchone()
        spent = db.execute("SELECT value FROM other.meta WHERE name = 'spent'").fetchone()
        aside = "SELECT coalesce(sum(pico), 0), coalesce(sum(tokens), 0) FROM other.reservations"
        lost = db.execute(aside).fetchone()
        notes = "SELECT name, value FROM other.meta WHERE name LIKE 'schema:%'"
        db.execute(f"INSERT OR IGNORE INTO meta {notes}")
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    finally:
        db.execute("DETACH DATABASE other")
    pico, tokens = json.loads(spent[0] if spent else "[0, 0]")
    return name[0], (pico + lost[0], tokens + lost[1])
