from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vistune.errors import VistuneError
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


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_text("not a data base, whatever its name says " * 100)
    with pytest.raises(VistuneError, match=r"s\.sqlite: the store of replies cannot be used"):
        Store(tmp_path / "s.sqlite")
