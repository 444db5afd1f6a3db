"""Stores of replies (SQLite), spoilt: to resume from, and to merge."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from fuzzing import fuzz
from vistune.llm import Reply
from vistune.llm.budget import Cost, Price
from vistune.llm.reply_rows import Failure, StoredReply
from vistune.llm.store import FILE, Store

KEYS = [f"{number:02x}" for number in range(20)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with replies, a failure, a reservation and a note."""

    async def fill(store: Store) -> None:
        for key in KEYS:
            await store.put(key, StoredReply(Reply(f"reply {key} " * 50, "m", {"input": 3, "output": 2}), Cost(5, 5)))
        await store.fail("ff", Failure("refused"))
        await store.reserve("fe", Cost(1, 1))

    path = tmp_path / "run" / FILE
    path.parent.mkdir()
    with Store(path) as opened:
        opened.set_note("schema:a", "x")
        asyncio.run(fill(opened))
    return path


def test_resuming(store: Path, tmp_path: Path) -> None:
    work = tmp_path / "work" / FILE

    def resume() -> None:
        shutil.rmtree(work.parent, ignore_errors=True)
        work.parent.mkdir()
        shutil.copy(store, work)
        with Store(work) as opened:
            replies = [opened.get(key) for key in KEYS]
            opened.failure("ff")
            opened.note("schema:a")
            opened.reprice(Price.parse("1:2"))
            assert all(one is None or "reply" in one.reply.text for one in replies)

    fuzz([store], resume, 30)


def test_merging(store: Path, tmp_path: Path) -> None:
    def merge() -> None:
        with suppress(FileNotFoundError):
            (tmp_path / FILE).unlink()
        with Store(tmp_path / FILE) as opened:
            lost = opened.merge(store.parent)
            assert lost >= 0

    fuzz([store], merge, 30)
