"""No command replaces what it has not written; `--overwrite` does. A second run in one place is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vistune.cli import main
from vistune.output_folder import locked, locked_file

Call = tuple[Callable[[Path], list[str]], str]

_SPLIT = ("split", "--test", "0.5")
COMMANDS: dict[str, Call] = {
    "generate": (lambda folder: ["generate", f"{folder}/coco", "--out", f"{folder}/out"], "out/align.json"),
    "demo-data": (lambda folder: [*_DEMO, "--out", f"{folder}/out"], "out/captions_train.json"),
    "view": (lambda folder: ["view", f"{folder}/rows.json", "--out", f"{folder}/out/page.html"], "out/page.html"),
    "import": (lambda folder: ["import", f"{folder}/asked.jsonl", "--out", f"{folder}/out/a.json"], "out/a.json"),
    "split": (
        lambda folder: [*_SPLIT, f"{folder}/rows.json", "--out", f"{folder}/out"],
        "out/test.json",
    ),
    "rescore": (
        lambda folder: ["rescore", "--as=pope", f"{folder}/pope.jsonl", "--json", f"{folder}/out/s"],
        "out/s",
    ),
}
_DEMO = ("demo-data", "--train", "2", "--val", "0", "--test", "0")


@pytest.fixture
def folder(coco: Path) -> Path:
    folder = coco.parent
    (folder / "out").mkdir()
    rows = []
    for number, color in enumerate(("red", "green", "blue", "white", "black", "gray")):
        Image.new("RGB", (30 + 9 * number, 40), color).save(folder / f"{color}.png")
        turns = [{"from": "human", "value": "<image>\nWhat color?"}, {"from": "gpt", "value": f"{color}."}]
        rows.append({"id": str(number), "image": f"{color}.png", "conversations": turns})
    (folder / "rows.json").write_text(json.dumps(rows))
    asked = {"image": "red.png", "question": "What color?", "answer": "red"}
    (folder / "asked.jsonl").write_text(json.dumps(asked) + "\n")
    answer = {"question": "Is it red?", "answer": "yes", "label": "yes", "category": "popular", "image": "red.png"}
    (folder / "pope.jsonl").write_text(json.dumps(answer) + "\n")
    return folder


def hashes(folder: Path) -> dict[Path, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_users_file_is_named_and_stays(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, taken = COMMANDS[name]
    (folder / taken).write_text("mine")
    before = hashes(folder)
    assert main(make(folder)) == 2
    error = capsys.readouterr().err
    assert str(folder / taken) in error
    assert "--overwrite" in error
    assert hashes(folder) == before
    assert main([*make(folder), "--overwrite"]) == 0
    assert (folder / taken).read_text() != "mine"
    assert main(make(folder)) == 0  # the same again


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_run_is_refused(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, written = COMMANDS[name]
    with locked(folder / "out"), locked_file(folder / written):
        before = hashes(folder)
        assert main(make(folder)) == 2
        assert ": another run is " in capsys.readouterr().err
        assert hashes(folder) == before
    assert main(make(folder)) == 0


def test_data_in_other_formats_is_not_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["generate", f"{folder}/coco", "--out", f"{folder}/out"]
    (folder / "out" / "instruct.jsonl").write_text("mine")
    assert main([*line, "--format", "llava"]) == 2
    assert "instruct.jsonl: it is there already" in capsys.readouterr().err
    (folder / "out" / "instruct.jsonl").unlink()
    for form, ending in (("messages", "jsonl"), ("llava", "json")):
        assert main([*line, "--format", form]) == 0
        assert [path.name for path in (folder / "out").glob("instruct.*")] == [f"instruct.{ending}"]


def test_data_is_not_split_onto_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (folder / "rows.json").rename(folder / "train.json")
    before = data.read_bytes()
    assert main(["split", str(data), "--test", "0.5", "--out", str(folder)]) == 2
    assert f"{data}: there is another file already" in capsys.readouterr().err
    assert data.read_bytes() == before
