"""The same files at any concurrency, in shards and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from generating import annotations, command, contents, report, run
from teacher_server import Teacher, teaching

ROWS, SHARDS = 203, 3


@pytest.fixture(scope="module")
def teacher() -> Iterator[Teacher]:
    with teaching(faults={"rate_limited": 0.02, "wrong_text": 0.1}) as one:
        yield one


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotations(tmp_path_factory.mktemp("data"), ROWS)


@pytest.fixture(scope="module")
def whole(data: Path, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run(command(data, teacher.url, out, "--concurrency", "256"))
    assert report(out)["asked"] == ROWS
    return out


def test_one_request_in_flight_or_many(data: Path, whole: Path, tmp_path: Path) -> None:
    with teaching(faults={"rate_limited": 0.02, "wrong_text": 0.1}) as teacher:  # whose faults start anew
        run(command(data, teacher.url, tmp_path, "--concurrency", "1"))
    assert contents(tmp_path) == contents(whole)


def test_in_shards_or_in_one_run(data: Path, whole: Path, tmp_path: Path) -> None:
    with teaching(faults={"rate_limited": 0.02, "wrong_text": 0.1}) as teacher:
        shards = [tmp_path / str(number) for number in range(1, SHARDS + 1)]
        for number, shard in enumerate(shards, 1):
            run(command(data, teacher.url, shard, "--shard", f"{number}/{SHARDS}", "--concurrency", "64"))
        assert sum(report(shard)["asked"] for shard in shards) == ROWS
        sent = teacher.stats["requests"]
        run(command(data, teacher.url, tmp_path / "merged", "--merge", *map(str, shards)))
        assert teacher.stats["requests"] == sent
    assert contents(tmp_path / "merged") == contents(whole)


def test_a_second_run_sends_no_request(data: Path, whole: Path, teacher: Teacher) -> None:
    before, sent = contents(whole), teacher.stats["requests"]
    run(command(data, teacher.url, whole))
    assert teacher.stats["requests"] == sent
    assert contents(whole) == before
