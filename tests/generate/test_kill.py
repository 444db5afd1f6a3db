"""Real processes with a real server, ended in the middle. `python test_kill.py PLACE COUNT ...` kills itself."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from generating import annotations, command, contents, report, run, start
from teacher_server import Teacher, teaching
from vistune.cli import main
from vistune.generate import plan
from vistune.generate.report import Report
from vistune.llm.store import Store
from vistune.sources import open_source

IMAGES, CONCURRENCY = 120, 16
PLACES: dict[str, tuple[type, str]] = {
    "before the reply is committed": (Store, "put"),
    "before the reply is judged": (Store, "settle"),
    "while the files are written": (Report, "add"),
}
OLD_TABLES = """
CREATE TABLE replies (key BLOB PRIMARY KEY, text TEXT, model TEXT, usage TEXT, finish TEXT,
    tries INTEGER, pico INTEGER, tokens INTEGER, settled INTEGER);
CREATE TABLE failures (key BLOB PRIMARY KEY, reason TEXT, words TEXT, tries INTEGER, final INTEGER);
CREATE TABLE reservations (key BLOB PRIMARY KEY, pico INTEGER, tokens INTEGER);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = 2;
INSERT INTO meta VALUES ('id', '5f1d'), ('spent', '[0, 0]'), ('teacher', 'teacher-1'), ('schema:teacher-1', '1');
"""


def stored(out: Path) -> int:
    """The number of committed replies."""
    path = out / "replies.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])


def killed(place: str, line: list[str]) -> None:
    """Run the command until it kills itself at the 30th time that it reaches the place."""
    program = [sys.executable, __file__, place, "30", *line[line.index("generate") :]]
    process = start(program, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors


def kill_at(place: str, count: int) -> None:
    """Replace the method at the place by one that kills this process at its `count`-th call."""
    owner, name = PLACES[place]
    original, calls = getattr(owner, name), itertools.count(1)

    def method(*arguments: Any, **options: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, method)


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """The process's exit code and errors after a signal."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def await_requests(teacher: Teacher, process: subprocess.Popen[str], count: int) -> None:
    while teacher.stats["requests"] < count and process.poll() is None:
        time.sleep(0.005)


def test_a_run_killed_at_each_commit_point_requests_no_stored_reply_again(tmp_path: Path) -> None:
    data, out, whole = annotations(tmp_path, IMAGES), tmp_path / "out", tmp_path / "whole"
    with teaching(latency=0.01) as teacher:
        line = command(data, teacher.url, out, "--concurrency", str(CONCURRENCY))
        requests = kept = 0
        for place in PLACES:
            killed(place, line)
            now = teacher.stats["requests"]
            if place == "while the files are written":  # the first run to request all that was left
                assert now - requests == IMAGES - kept
            requests, kept = now, stored(out)
            assert kept >= (29 if place == "before the reply is judged" else 1)
        assert kept == IMAGES
        run(line)
        assert teacher.stats["requests"] == requests
        assert requests - len(teacher.stats["bodies"]) <= 2 * CONCURRENCY
        run(command(data, teacher.url, whole))
    assert report(out)["pending"] == 0
    assert contents(out) == contents(whole)


def test_a_store_of_the_first_version_is_continued(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 20), tmp_path / "out"
    made = plan.make_plan(
        open_source("caps_boxes", data), {"conversation": 1.0}, 0, options={"max_tokens": 2048}
    ).structured()
    keys = [bytes.fromhex(request.key("teacher-1")) for request in made.requests()]
    text = '{"turns": [{"question": "Is photo %d quiet?", "answer": "Yes, nothing moves in it at all."}]}'
    out.mkdir()
    with closing(sqlite3.connect(out / "replies.sqlite")) as old:
        old.executescript(OLD_TABLES)
        for number, key in enumerate(keys[:15]):
            settled = None if number < 5 else 1  # five that a killed run has not looked at
            row = (key, text % number, "teacher-1", '{"input": 9, "output": 9}', "stop", 1, 0, 18, settled)
            old.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.execute("INSERT INTO failures VALUES (?, 'content_filter', 'No.', 1, 1)", (keys[15],))
        old.commit()
    with teaching() as teacher:
        run(command(data, teacher.url, out))
        assert teacher.stats["requests"] == 4
    found = report(out)
    assert (found["pending"], found["quarantined"]) == (0, 1)
    assert "Is photo 14 quiet?" in (out / "instruct.json").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_requests_in_flight_finish(number: int, code: int, tmp_path: Path) -> None:
    data, out = annotations(tmp_path, IMAGES), tmp_path / "out"
    with teaching(latency=0.2) as teacher:
        line = command(data, teacher.url, out, "--concurrency", str(CONCURRENCY))
        process = start(line)
        await_requests(teacher, process, 2 * CONCURRENCY)
        found, printed = ended(process, number)
        assert found == code, printed
        assert "finishing the requests in flight" in printed
        requests = teacher.stats["requests"] - 1  # the probe's
        assert stored(out) == requests
        assert report(out)["pending"] == IMAGES - requests > 0
        run(line)
        assert teacher.stats["requests"] - 1 == IMAGES


def test_a_signal_while_the_files_are_written_lets_them_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = annotations(tmp_path, 40), tmp_path / "out"
    add, calls = Report.add, itertools.count(1)

    def interrupted(self: Report, one: Any) -> None:
        if next(calls) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, one)

    monkeypatch.setattr(Report, "add", interrupted)
    assert main(["generate", str(data), "--kinds", "conversation=all", "--out", str(out)]) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert report(out)["pending"] == 0


def test_a_signal_ends_the_probe_for_schemas(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 5), tmp_path / "out"
    with teaching(latency=60.0) as teacher:
        process = start(command(data, teacher.url, out))
        await_requests(teacher, process, 1)
        code, printed = ended(process, signal.SIGINT)
        assert code == 130, printed
    assert report(out)["pending"] == 5


def test_a_second_signal_does_not_wait_for_replies(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 40), tmp_path / "out"
    with teaching() as probed:  # so that the run does not wait for the probe
        run(command(data, probed.url, out, "--limit", "1"))
    with teaching(latency=60.0) as teacher:
        process = start(command(data, teacher.url, out))
        await_requests(teacher, process, 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        began = time.monotonic()
        code, _ = ended(process, signal.SIGINT)
        assert code == 130
        assert time.monotonic() - began < 30


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
