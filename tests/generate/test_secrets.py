"""A key given in the environment, the URL and a header is found in nothing that a run leaves or says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from generating import annotations, command, run
from teacher_server import teaching

CANARY = "sk-canary-5f1d2e7a90"


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() + str(path).encode() for path in folder.rglob("*") if path.is_file())


def test_a_key_is_written_nowhere(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 60), tmp_path / "out"
    faults = dict.fromkeys(("http_500", "reset", "html", "not_json", "wrong_text", "content_filter"), 0.08)
    with teaching(key=CANARY, faults=faults) as teacher:
        place = urlsplit(teacher.url).netloc
        line = command(data, f"http://user:{CANARY}-2@{place}", out, "--key-env", "MY_KEY", "--header",
                       f"X-Token={CANARY}-3")  # fmt: skip
        said = run(line, MY_KEY=CANARY)
        assert teacher.stats()["statuses"]["200"] > 0
    assert CANARY not in said
    assert CANARY.encode() not in everything(out)


def test_a_server_that_repeats_the_key_does_not_give_it_away(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 5), tmp_path / "out"
    with teaching(key="another") as teacher:  # its 401 repeats the key that it got
        said = run(command(data, teacher.url, out, "--key-env", "MY_KEY"), code=2, MY_KEY=CANARY)
    assert "Incorrect API key" in said
    assert CANARY not in said
    assert CANARY.encode() not in everything(out)


def test_a_header_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    data = annotations(tmp_path, 1)
    said = run(command(data, "http://localhost:1", tmp_path / "out", "--header", CANARY), code=2)
    assert CANARY not in said
