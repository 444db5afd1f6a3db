from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from vistune.errors import StorageError, VistuneError
from vistune.llm import Reply
from vistune.llm.budget import Cost
from vistune.llm.reply_rows import StoredReply
from vistune.llm.store import Store


def test_what_is_put_can_be_read_again(tmp_path: Path) -> None:
    reply = Reply("text\n=== \u2028 \U0001f600", "model", {"input": 3})
    with Store(tmp_path / "s.sqlite") as store:
        asyncio.run(store.put("aa", StoredReply(reply)))
        assert "aa" in store
        assert "bb" not in store
    with Store(tmp_path / "s.sqlite") as store:
        assert store.get("aa") == StoredReply(reply)
        assert store.get("bb") is None


def test_the_first_reply_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        asyncio.run(store.put("aa", StoredReply(Reply("first", "model"))))
        asyncio.run(store.put("aa", StoredReply(Reply("second", "model"))))
        assert store.get("aa") == StoredReply(Reply("first", "model"))


def test_a_cancelled_wait_loses_no_reply_and_stops_no_other(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        waits = [asyncio.create_task(store.put(key, StoredReply(Reply(key, "model")))) for key in ("aa", "bb", "cc")]
        await asyncio.sleep(0)  # all three wait for one commit
        waits[0].cancel()
        done = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [None, None]

    with Store(tmp_path / "s.sqlite") as store:
        asyncio.run(main(store))
        assert all(key in store for key in ("aa", "bb", "cc"))


def test_what_a_killed_run_had_under_way_counts_as_spent_wherever_it_is_merged(tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    with Store(tmp_path / "killed" / "replies.sqlite") as killed:
        asyncio.run(killed.reserve("aa", Cost(5, 7)))
        asyncio.run(killed.reserve("bb", Cost(11, 13)))
        killed.charge("bb", Cost(2, 3))
        asyncio.run(killed.put("bb", StoredReply(Reply("b", "model"))))
    with Store(tmp_path / "s.sqlite") as store:
        for _ in range(2):
            store.merge(tmp_path / "killed")
            assert store.spent == Cost(7, 10)
    with Store(tmp_path / "killed" / "replies.sqlite") as resumed:
        assert resumed.spent == Cost(7, 10)
    with Store(tmp_path / "s.sqlite") as store:
        store.merge(tmp_path / "killed")
        assert store.spent == Cost(7, 10)


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        asyncio.run(store.put("aa", StoredReply(Reply("a", "model"))))
        with pytest.raises(VistuneError, match="another run is using this folder"):
            Store(tmp_path / "s.sqlite")


KEYS = [f"{number:064x}" for number in range(400)]


def fill(path: Path) -> None:
    """Store a reply to each of KEYS."""

    async def put(store: Store) -> None:
        for key in KEYS:
            await store.put(key, StoredReply(Reply(f"reply {key}", "model", {"input": 3}, "stop"), Cost(1, 2)))

    with Store(path) as store:
        asyncio.run(put(store))


def filled(folder: Path) -> Path:
    """A store with a reply to each of KEYS."""
    folder.mkdir()
    fill(folder / "replies.sqlite")
    return folder / "replies.sqlite"


def test_a_copy_without_its_log_has_every_reply_that_was_put(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        for number, key in enumerate(KEYS[:20], 1):
            await store.put(key, StoredReply(Reply("text", "model")))
            copy = Path(shutil.copy(tmp_path / "s.sqlite", tmp_path / f"copy{number}.sqlite"))
            with Store(copy) as copied:
                assert all(known in copied for known in KEYS[:number])

    with Store(tmp_path / "s.sqlite") as store:
        asyncio.run(main(store))


def read_all(path: Path) -> list[str]:
    with Store(path) as store:
        return [stored.reply.text for key in KEYS if (stored := store.get(key))]


def test_damage_is_an_error_and_whole_replies_are_taken_over(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole").read_bytes()
    rng, wanted = random.Random(0), {f"reply {key}" for key in KEYS}
    for number in range(20):
        folder = tmp_path / f"damaged{number}"
        folder.mkdir()
        start = rng.randrange(12 * 4096, len(whole) - 8192)  # the first pages are the tables' roots
        garbage = rng.randbytes(8192) if number % 2 else bytes(8192)
        (folder / "replies.sqlite").write_bytes(whole[:start] + garbage + whole[start + 8192 :])
        with pytest.raises(VistuneError, match=rf"(?s)(damaged|malformed).*--merge {folder} takes over"):
            read_all(folder / "replies.sqlite")
        with Store(tmp_path / f"new{number}.sqlite") as store:
            lost = store.merge(folder)
        found = read_all(tmp_path / f"new{number}.sqlite")
        assert 300 <= len(found) <= len(KEYS) - lost < len(KEYS)
        assert set(found) <= wanted


@pytest.mark.parametrize("change", [
    "UPDATE replies SET text = NULL", "UPDATE replies SET text = 'other'", "UPDATE replies SET usage = '[nothing'",
    "UPDATE meta SET value = 'much' WHERE name = 'spent'", "ALTER TABLE replies RENAME COLUMN usage TO used",
])  # fmt: skip
def test_a_changed_row_is_an_error_with_its_file(change: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "out")
    with closing(sqlite3.connect(path)) as store, store:
        store.execute(change)
    with pytest.raises(VistuneError, match=r"replies\.sqlite: .*\n  fix: "), Store(path) as opened:
        opened.get(KEYS[3])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full_at_any_size_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    for pages in range(1, 24):
        options = ["-t", "tmpfs", "-o", f"size={4096 * pages}", "x", str(tmp_path)]
        subprocess.run(["mount", *options], check=True)
        try:
            with pytest.raises(
                StorageError, match=r"s\.sqlite: cannot be written: .* bytes left\n  fix: free some space"
            ):
                fill(tmp_path / "s.sqlite")
            subprocess.run(["mount", "-o", "remount,size=10M", str(tmp_path)], check=True)
            fill(tmp_path / "s.sqlite")
            assert len(read_all(tmp_path / "s.sqlite")) == len(KEYS)
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_in_the_place_of_the_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").mkdir()
    with pytest.raises(VistuneError, match=r"s\.sqlite: the store of replies cannot be opened.*\n  fix: "):
        Store(tmp_path / "s.sqlite")


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_text("not a data base, whatever its name says " * 100)
    with pytest.raises(VistuneError, match=r"s\.sqlite: the store of replies cannot be used"):
        Store(tmp_path / "s.sqlite")
