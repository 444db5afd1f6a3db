"""A server with every fault: transient faults lose nothing, and the others stop the run with the server's message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from generating import annotations, command, contents, report, run
from teacher_server import Teacher, teaching

TRANSIENT = (
    "rate_limited", "retry_after", "http_500", "http_502", "http_503", "reset", "hang", "html", "no_choices",
    "no_usage", "huge_usage", "truncated", "not_json", "nested", "error_in_200",
)  # fmt: skip
OVERLOAD = ("rate_limited", "retry_after", "http_503", "hang")
"""Faults that also slow the requests down."""


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with teaching() as one:
        yield one


def test_transient_faults_lose_nothing(tmp_path: Path) -> None:
    data = annotations(tmp_path, 240)
    faults = {**dict.fromkeys(TRANSIENT, 0.03), **dict.fromkeys(OVERLOAD, 0.015), "wrong_text": 0.1}
    options = ("--timeout", "2", "--concurrency", "64", "--attempts", "6", "--price", "1:2")
    with teaching(faults=faults) as teacher:
        run(command(data, teacher.url, tmp_path / "out", *options))
        assert teacher.stats["faults"].keys() == {*faults, ""}
    found = report(tmp_path / "out")
    assert (found["asked"], found["pending"], found["quarantined"]) == (240, 0, 0)


def test_a_fault_for_good_stops_the_run_with_the_server_s_message(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 200), tmp_path / "out"
    with teaching(faults={"insufficient_quota": 0.1}) as teacher:
        printed = run(command(data, teacher.url, out, "--concurrency", "4"), code=2)
    assert "You exceeded your current quota" in printed
    before = report(out)
    assert 200 > before["pending"] > 0
    with teaching() as teacher:
        run(command(data, teacher.url, out))
        assert teacher.stats["requests"] == before["pending"]
    assert report(out)["pending"] == 0


def test_requests_that_are_refused_for_good_are_quarantined_alone(tmp_path: Path) -> None:
    data = annotations(tmp_path, 40)
    with teaching(faults={"context_length": 0.2, "content_filter": 0.2}) as teacher:
        run(command(data, teacher.url, tmp_path / "out"))
        first = teacher.stats["requests"]
        run(command(data, teacher.url, tmp_path / "out"))
        assert teacher.stats["requests"] == first
    found = report(tmp_path / "out")
    reasons = found["kinds"]["conversation"]["reasons"]
    assert reasons["context_length"] + reasons["content_filter"] == found["quarantined"]
    assert min(reasons["context_length"], reasons["content_filter"]) > 0


def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    data = annotations(tmp_path, 3)
    printed = run(command(data, "http://127.0.0.1:9", tmp_path / "out", "--patience", "0.01"), code=2)
    assert "no reply from 'teacher-1'" in printed


def test_a_run_that_gets_nothing_leaves_the_files_of_an_earlier_one(tmp_path: Path, teacher: Teacher) -> None:
    data, out = annotations(tmp_path, 3), tmp_path / "out"
    run(command(data, teacher.url, out))
    before = contents(out)
    unknown, unreachable = (teacher.url, "teacher-11", "does not exist"), ("http://127.0.0.1:9", "other", "no reply")
    for url, model, words in (unknown, unreachable):
        printed = run(command(data, url, out, "--teacher", f"openai:{model}", "--patience", "0.01"), code=2)
        assert words in printed
        assert "out has data of the teacher 'teacher-1'" in " ".join(printed.split())
        assert "quarantined" not in printed  # no empty table
        assert contents(out) == before
    assert not (tmp_path / "new").exists()
    run(command(data, teacher.url, tmp_path / "new", "--teacher", "openai:teacher-11"), code=2)
    assert not (tmp_path / "new" / "instruct.json").exists()


def test_an_image_outside_the_folder_is_never_taken(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, teacher: Teacher
) -> None:
    data, image = annotations(tmp_path, 3), tmp_path_factory.mktemp("elsewhere") / "x.jpg"
    Image.new("RGB", (9, 9)).save(image)
    with data.open("a") as file:
        file.write(f'{{"id": "x", "image": "{image}", "captions": ["A dog."], "instances": []}}\n')
    printed = run(command(data, teacher.url, tmp_path / "out"), code=2)
    assert f"line 4: the image {image} is outside of the folder" in printed
    run(command(data, teacher.url, tmp_path / "out", "--skip-bad-records"))
    pairs = json.loads((tmp_path / "out" / "align.json").read_text("utf-8"))
    assert len(pairs) == 3


def test_half_a_surrogate_pair_in_the_annotations_is_no_error(tmp_path: Path, teacher: Teacher) -> None:
    """JSON can spell it, UTF-8 cannot: the server and the store need not accept it."""
    row = {"id": "a\ud83d", "image": "a.jpg", "captions": ["A dog \ud83d runs.", "A brown dog."]}
    box = {"category": "dog\udc00", "bbox": [0.1, 0.2, 0.3, 0.4]}
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({**row, "instances": [box]}) + "\n", "utf-8")
    run(command(data, teacher.url, tmp_path / "out", "--kinds", "conversation=all,detail=all"))
    found = report(tmp_path / "out")
    assert (found["asked"], found["pending"], found["quarantined"]) == (2, 0, 0)
    pairs = json.loads((tmp_path / "out" / "align.json").read_text("utf-8"))
    assert {pair["id"].split("-")[0] for pair in pairs} == {"a?"}
