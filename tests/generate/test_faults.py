"""A server that fails in every way it can: what can be had is had, and what cannot stops the run with its own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from generating import annotations, command, contents, report, run
from teacher_server import Teacher, teaching

TRANSIENT = (
    "rate_limited", "retry_after", "http_500", "http_502", "http_503", "reset", "hang", "html", "no_choices",
    "no_usage", "truncated", "not_json", "error_in_200",
)  # fmt: skip


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with teaching() as one:
        yield one


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_tenth_of_each_fault_loses_nothing(fault: str, tmp_path: Path) -> None:
    data = annotations(tmp_path, 60)
    with teaching(faults={fault: 0.1}, hang=30.0) as teacher:
        run(command(data, teacher.url, tmp_path / "out", "--timeout", "2", "--concurrency", "32"))
        assert teacher.stats()["faults"][fault] > 0
        found = report(tmp_path / "out")
        assert (found["asked"], found["pending"]) == (60, 0)
        assert "quarantined" not in found["kinds"]["conversation"]["reasons"]
        assert found["quarantined"] == 0


def test_all_faults_together_lose_nothing(tmp_path: Path) -> None:
    data = annotations(tmp_path, 100)
    with teaching(faults={**dict.fromkeys(TRANSIENT, 0.03), "wrong_text": 0.1}, hang=30.0) as teacher:
        run(command(data, teacher.url, tmp_path / "out", "--timeout", "2", "--concurrency", "64", "--attempts", "6"))
    found = report(tmp_path / "out")
    assert (found["pending"], found["quarantined"]) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("http_400", "Invalid 'messages'."),
        ("http_401", "Incorrect API key provided"),
        ("http_404", "The model does not exist."),
        ("insufficient_quota", "You exceeded your current quota"),
    ],
)
def test_what_will_not_pass_stops_the_run_with_the_servers_words(fault: str, words: str, tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 40), tmp_path / "out"
    with teaching(faults={fault: 0.1}) as teacher:
        said = run(command(data, teacher.url, out, "--concurrency", "4"), code=2)
    assert words in said
    before = report(out)
    assert before["pending"] > 0
    with teaching() as teacher:  # what was answered is not asked again
        run(command(data, teacher.url, out))
        asked = teacher.stats()["requests"]
    assert report(out)["pending"] == 0
    assert asked == before["pending"]


@pytest.mark.parametrize("fault", ["context_length", "content_filter"])
def test_what_is_refused_for_good_is_quarantined_alone(fault: str, tmp_path: Path) -> None:
    data = annotations(tmp_path, 40)
    with teaching(faults={fault: 0.2}) as teacher:
        run(command(data, teacher.url, tmp_path / "out"))
        first = teacher.stats()["requests"]
        run(command(data, teacher.url, tmp_path / "out"))
        assert teacher.stats()["requests"] == first
    found = report(tmp_path / "out")
    assert found["kinds"]["conversation"]["reasons"][fault] == found["quarantined"] > 0


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    data = annotations(tmp_path, 3)
    said = run(command(data, "http://127.0.0.1:9", tmp_path / "out", "--patience", "0.01"), code=2)
    assert "no reply from 'teacher-1'" in said


def test_a_run_that_gets_nothing_leaves_the_files_of_an_earlier_one(tmp_path: Path, teacher: Teacher) -> None:
    data, out = annotations(tmp_path, 3), tmp_path / "out"
    run(command(data, teacher.url, out))
    before = contents(out)
    unknown, down = (teacher.url, "teacher-11", "does not exist"), ("http://127.0.0.1:9", "other", "no reply")
    for url, model, words in (unknown, down):
        said = run(command(data, url, out, "--teacher", f"openai:{model}", "--patience", "0.01"), code=2)
        assert words in said
        assert "out has data of the teacher 'teacher-1'" in " ".join(said.split())
        assert "quarantined" not in said  # no table of nothing
        assert contents(out) == before
    assert not (tmp_path / "new").exists()
    run(command(data, teacher.url, tmp_path / "new", "--teacher", "openai:teacher-11"), code=2)
    assert not (tmp_path / "new" / "instruct.json").exists()


def test_an_image_outside_the_folder_is_told_before_anybody_is_asked(tmp_path: Path, teacher: Teacher) -> None:
    data = annotations(tmp_path, 3)
    with data.open("a") as file:
        file.write('{"id": "x", "image": "/elsewhere/x.jpg", "captions": ["A dog."], "instances": []}\n')
    said = run(command(data, teacher.url, tmp_path / "out"), code=2)
    assert "line 4: image /elsewhere/x.jpg is not below" in " ".join(said.split())
    assert "--images" in said
    assert teacher.stats()["requests"] == 0


def test_half_a_surrogate_pair_in_the_annotations_stops_nothing(tmp_path: Path, teacher: Teacher) -> None:
    """JSON can spell it, UTF-8 cannot: neither the server nor the store has to be able to take it."""
    row = {"id": "a\ud83d", "image": "a.jpg", "captions": ["A dog \ud83d runs.", "A brown dog."]}
    box = {"category": "dog\udc00", "bbox": [0.1, 0.2, 0.3, 0.4]}
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({**row, "instances": [box]}) + "\n", "utf-8")
    run(command(data, teacher.url, tmp_path / "out", "--kinds", "conversation=all,detail=all"))
    found = report(tmp_path / "out")
    assert (found["asked"], found["pending"], found["quarantined"]) == (2, 0, 0)
    pairs = json.loads((tmp_path / "out" / "align.json").read_text("utf-8"))
    assert {pair["id"].split("-")[0] for pair in pairs} == {"a?"}
