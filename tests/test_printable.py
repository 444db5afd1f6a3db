from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.table import Table

from vistune.cli import main
from vistune.errors import DataError
from vistune.printable import printable
from vistune.terminal import Terminal

HOSTILE = "\x1b[2J\x1b]0;title\a\x9b31m\u202egnp.exe\ud800 [bold]:smile:"


def is_clean(text: str) -> bool:
    return text == printable(text)


def test_scripts_and_emoji_stay_and_controls_are_shown() -> None:
    text = "Ein Hund\t犬 🐕\u200d🦺 e\u0301\n"
    assert printable(text) == text
    assert printable("a\r\nb\x1b]0;title\a") == "a\nb\ufffd]0;title\ufffd"
    assert printable(HOSTILE) == "\ufffd[2J\ufffd]0;title\ufffd\ufffd31m\ufffdgnp.exe\ufffd [bold]:smile:"


def test_errors_are_clean() -> None:
    error = DataError(f"bad {HOSTILE}", where=f"x{HOSTILE}", fix=f"do {HOSTILE}")
    assert is_clean(str(error))
    assert is_clean(error.what + error.where + error.fix)


def test_consoles_and_their_tables_show_foreign_text_as_it_is() -> None:
    file = io.StringIO()
    console = Terminal(file=file, width=200)
    table = Table("name", HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE, "[/nothing]")
    console.print(HOSTILE, table)
    assert is_clean(file.getvalue())
    assert "[bold]:smile:" in file.getvalue()
    assert "[/nothing]" in file.getvalue()


@pytest.mark.parametrize("command", [["--show"], ["--out"]])
def test_commands_print_no_controls_of_the_data(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"1{HOSTILE}", "image": f"a{HOSTILE}.jpg", "captions": [f"A dog. {HOSTILE}"],
         "instances": [{"category": f"dog{HOSTILE}", "bbox": [0, 0, 1, 1]}]},
        {"id": "2", "image": f"b{HOSTILE}.jpg", "captions": [{HOSTILE: 1}], "instances": []},
    ]  # fmt: skip
    (folder := tmp_path / "data\x1b[31m").mkdir()
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = [str(tmp_path / "out\x1b[31m")] if command == ["--out"] else []
    main(["generate", str(folder / "d.jsonl"), "--source", "caps_boxes", "--skip-bad-records", *command, *out])
    printed = capsys.readouterr()
    assert is_clean(printed.out + printed.err)
    assert "left out" in printed.err
