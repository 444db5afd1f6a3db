"""A real process, killed while it asks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import vistune
from vistune.generate import GenerateRecipe, generate
from vistune.llm import Client, Reply, Request
from vistune.records import ImageRecord

CONCURRENCY = 8
RECORDS = [ImageRecord(f"{n:04}", Path(f"{n}.jpg"), 64, 48, (f"Dog {n} sits on a rug.",)) for n in range(400)]


class Logging(Client):
    """Writes down each request before it is answered; answers no more than `most`."""

    name = "logging"

    def __init__(self, log: Path, most: int) -> None:
        self.log, self.left = log, most

    async def complete(self, request: Request) -> Reply:
        self.left -= 1
        if self.left < 0:
            await asyncio.Event().wait()
        with self.log.open("a") as file:
            file.write(f"{request.record_id} {request.kind}\n")
        answer = f"The dog has the number {request.seed}, and there is nothing else to see."
        return Reply(
            answer if request.kind == "detail" else f"Question:\nWhich dog?\n===\nAnswer:\n{answer}", self.name
        )


def run(folder: Path, most: int = 10**9) -> None:
    client = Logging(folder / "log", most)
    recipe = GenerateRecipe(kinds="conversation,detail", concurrency=CONCURRENCY)
    generate(recipe, folder, records=RECORDS, client=client, console=Console(quiet=True))


def asked(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.mark.parametrize("kill_after", [1, 150, 390])
def test_a_killed_run_goes_on_where_it_was(kill_after: int, whole: Path, tmp_path: Path) -> None:
    killed = tmp_path
    environment = {**os.environ, "PYTHONPATH": str(Path(vistune.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, __file__, str(killed)], env=environment)
    while len(asked(killed)) < kill_after and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = asked(killed)
    run(killed)
    repeated = len(asked(killed)) - len(set(asked(killed)))
    assert len(before) >= kill_after
    assert repeated <= CONCURRENCY
    assert set(asked(killed)) == set(asked(whole))
    for name in ("instruct.json", "align.json", "provenance.jsonl", "rejected.jsonl", "report.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


if __name__ == "__main__":
    run(Path(sys.argv[1]), most=len(RECORDS))  # half of what is asked: it cannot end before it is killed
