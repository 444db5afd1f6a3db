"""The commands of docs/guides/own-questions.md, as they stand there, on drawn shapes with tiny random backbones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from assembling import assemble
from shapes_vqa import write
from vistune.cli import main
from vistune.model.checkpoint import save_checkpoint

GUIDE = Path(__file__).parents[1] / "docs/guides/own-questions.md"
FEWER_STEPS = ["--set", "stages.tune.epochs=0.2"]


@pytest.fixture
def checkpoint(backbones: Path, tmp_path: Path) -> Path:
    parts = assemble(str(backbones / "vision"), str(backbones / "language"), projector="linear")
    save_checkpoint(*parts, tmp_path / "start", torch.float32)
    return tmp_path / "start"


def test_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "qa", images=60)
    block = re.search(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert block
    commands = [shlex.split(line)[1:] for line in block[1].replace("CHECKPOINT", str(checkpoint)).splitlines()]
    assert [command[0] for command in commands] == ["import", "split", "train", "eval", "eval", "report"]
    for command in commands:
        capsys.readouterr()
        assert main([*command, *(FEWER_STEPS if command[0] == "train" else [])]) == 0, command
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("questions", "color", "shape", "runs/before"))
    test = json.loads((tmp_path / "qa/test.json").read_text())
    verdicts = [json.loads(line) for line in (tmp_path / "runs/after/verdicts.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in verdicts] == [row["id"] for row in test]
    assert main(["eval", "runs/qa/tune", "--questions", "qa/train.json", "--out", "runs/leak"]) == 2
    assert "is in the training data" in capsys.readouterr().err
    assert main(["eval", "runs/qa/tune", "--data", "qa/test.json", "--out", "runs/other"]) == 2
    assert "fix: --questions qa/test.json" in capsys.readouterr().err
