"""A key in the environment, the URL or a header is in nothing that a run writes or prints."""

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
        printed = run(line, MY_KEY=CANARY)
        assert teacher.stats["statuses"][200] > 0
    assert CANARY not in printed
    assert CANARY.encode() not in everything(out)


def test_a_key_that_the_server_repeats_is_hidden(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 5), tmp_path / "out"
    with teaching(key="another") as teacher:  # its 401 repeats the key that it got
        printed = run(command(data, teacher.url, out, "--key-env", "MY_KEY"), code=2, MY_KEY=CANARY)
    assert "Unauthorized (key ***)" in printed
    assert CANARY not in printed
    assert CANARY.encode() not in everything(out)


def test_a_malformed_header_is_not_repeated(tmp_path: Path) -> None:
    data = annotations(tmp_path, 1)
    printed = run(command(data, "http://localhost:1", tmp_path / "out", "--header", CANARY), code=2)
    assert CANARY not in printed
