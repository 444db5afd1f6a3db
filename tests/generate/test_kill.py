"""Real processes that ask a real server, and are ended in the middle."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from generating import annotations, command, contents, report, run, start
from teacher_server import Teacher, teaching

IMAGES, CONCURRENCY = 300, 16


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with teaching(latency=0.03) as one:
        yield one


def stored(out: Path) -> int:
    """How many replies are committed."""
    path = out / "replies.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])


def ended(process: subprocess.Popen[str], after: float, number: int) -> tuple[int, str]:
    """The process's exit code and errors, when it got the signal so many seconds after its first request."""
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def first_reply(teacher: Teacher, process: subprocess.Popen[str], before: int) -> None:
    while teacher.stats()["requests"] <= before and process.poll() is None:
        time.sleep(0.005)


def test_killed_twenty_times_it_asks_nothing_twice_but_what_was_under_way(teacher: Teacher, tmp_path: Path) -> None:
    data, out = annotations(tmp_path, IMAGES), tmp_path / "out"
    line = command(data, teacher.url, out, "--concurrency", str(CONCURRENCY))
    draw, kills = random.Random(0), 0
    for _ in range(20):
        process = start(line)
        first_reply(teacher, process, teacher.stats()["requests"])
        code, _ = ended(process, draw.uniform(0, 0.06), signal.SIGKILL)
        kills += code == -signal.SIGKILL
    run(line)
    stats = teacher.stats()
    assert kills >= 10
    assert report(out)["pending"] == 0
    assert stats["requests"] - len(stats["bodies"]) <= kills * CONCURRENCY
    whole = tmp_path / "whole"
    run(command(data, teacher.url, whole))
    assert contents(out) == contents(whole)


def test_what_is_stored_is_never_asked_again(teacher: Teacher, tmp_path: Path) -> None:
    data, out = annotations(tmp_path, IMAGES), tmp_path / "out"
    line = command(data, teacher.url, out, "--concurrency", str(CONCURRENCY))
    process = start(line)
    first_reply(teacher, process, 1)
    ended(process, 0.2, signal.SIGKILL)
    kept, asked = stored(out), teacher.stats()["requests"]
    assert 0 < kept < IMAGES
    run(line)
    assert teacher.stats()["requests"] - asked == IMAGES - kept


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_what_is_under_way_come_in(number: int, code: int, tmp_path: Path) -> None:
    data, out = annotations(tmp_path, IMAGES), tmp_path / "out"
    with teaching(latency=0.2) as teacher:
        line = command(data, teacher.url, out, "--concurrency", str(CONCURRENCY))
        process = start(line)
        first_reply(teacher, process, 1)
        found, said = ended(process, 0.5, number)
        assert found == code, said
        assert "finishing the requests in flight" in said
        asked = teacher.stats()["requests"] - 1  # the probe's
        assert stored(out) == asked
        assert report(out)["pending"] == IMAGES - asked > 0
        run(line)
        assert teacher.stats()["requests"] - 1 == IMAGES


def test_a_signal_ends_the_question_about_schemas(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 5), tmp_path / "out"
    with teaching(latency=60.0) as teacher:
        process = start(command(data, teacher.url, out))
        first_reply(teacher, process, 0)
        code, said = ended(process, 0, signal.SIGINT)
        assert code == 130, said
    assert report(out)["pending"] == 5


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 40), tmp_path / "out"
    with teaching(latency=60.0) as teacher:
        line = [*command(data, teacher.url, out)]
        with teaching() as probed:  # so that nothing waits for the probe
            run(command(data, probed.url, out, "--limit", "1"))
        process = start(line)
        first_reply(teacher, process, 0)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        began = time.monotonic()
        code, _ = ended(process, 0, signal.SIGINT)
        assert code == 130
        assert time.monotonic() - began < 30
