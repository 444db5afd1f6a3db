"""What the sweep over bad input (benchmarks/robust_sweep.py) has found: each is an error that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vistune.cli import main
from vistune.errors import CheckpointError
from vistune.evaluate.results import load_verdicts
from vistune.export.model_card import model_card
from vistune.model.adapter_checkpoint import read_base
from vistune.model.checkpoint import check_whole
from vistune.model.familiar import known_data


@pytest.mark.parametrize(
    "text", ["", "7", "[1]", '{"benchmarks": 3}', '{"benchmarks": {"pope": []}}', "\0", "[" * 9999]
)
def test_scores_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"scores\.json: .*\n  fix: "):
        model_card(str(tmp_path / "tune"), tmp_path)


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing\n  fix: name the folder that holds it"):
        check_whole(tmp_path)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("ablate mini --fractions x --out out", "--fractions: 'x' is no share of the data\n  fix: give numbers"),
        (
            "ablate mini --fractions 0.5,nan --out out",
            "--fractions: 'nan' is no share of the data\n  fix: give numbers",
        ),
        ("rescore vqa.jsonl --truth none.json --problems none.json", "--problems: it is for answers to ScienceQA"),
        ("rescore . --as mme", ".: there are no texts of answers in it\n  fix: name"),
        ("generate empty --source coco --out out", "empty: there are no samples: 0 images, 0 boxes and"),
        ("import none.csv --out out.json", "none.csv: there are no questions in it\n  fix: check"),
        ("view none.json --out page.html", "none.json: there are no samples in it\n  fix: check"),
        ("view rows.json --split x --out page.html", "--split: it is about annotated images\n  fix: name"),
        ("export none --to gguf --scores x --out out", "--to gguf: its files have no model card\n  fix: leave"),
        ("rescore vqa.jsonl --truth none.json", "none.json: there are no questions with answers\n  fix: add --truth"),
        ("init rows.json --images nowhere --out r.yaml", "--images nowhere: there is no such folder\n  fix: check"),
    ],
)
def test_options(
    line: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    turns = '[{"from": "human", "value": "<image>\\nWhat?"}, {"from": "gpt", "value": "A dog."}]'
    (tmp_path / "rows.json").write_text(f'[{{"id": "0", "image": "a.jpg", "conversations": {turns}}}]')
    (tmp_path / "vqa.jsonl").write_text('{"question_id": 1, "answer": "yes"}')
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/instances_train.json").write_text("{}")
    (tmp_path / "none.csv").write_text("image,question,answer\n")
    assert main(line.split()) == 2
    assert f"error: {error}" in capsys.readouterr().err


def test_a_model_without_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = '{"image": "a.jpg", "question": "What?", "answer": "A dog"}'
    (tmp_path / "questions.jsonl").write_text(row)
    command = ["eval", "", "--questions", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "it holds no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[", "\0"])
def test_the_name_of_a_base_in_no_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"base\.json: not valid JSON.*\n  fix: "):
        read_base(tmp_path)


def test_settings_that_are_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert known_data(tmp_path) == ""


def test_a_report_without_verdicts(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text("\n")
    with pytest.raises(CheckpointError, match=r"verdicts\.jsonl: there are no verdicts here\n  fix: "):
        load_verdicts(tmp_path)


def test_a_pipe_in_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: this is a pipe or a device, not a file\n  fix: "):
        check_whole(tmp_path)
    (tmp_path / "base.json").write_text('{"checkpoint": "base"}')
    with pytest.raises(CheckpointError, match=r"model\.safetensors: this is a pipe"):
        read_base(tmp_path)


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    for name in ("json", "numpy", "torch", "transformers", "vistune"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    command = [sys.executable, Path(sysconfig.get_path("scripts"), "vistune"), "env"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
