"""The demo in small, from the command's own function to its last line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.demo.run import run_demo


def test_the_demo_leaves_all_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    run_demo(out, 7, images=40, held_out=5)
    scores = json.loads((out / "scores.json").read_text())
    assert scores["seed"] == 7
    assert scores["seconds"] > 0
    assert scores["peak_rss_mb"] > 100
    for label in ("tuned", "aligned", "blind"):
        assert 0 <= scores[label]["accuracy"] <= 1
        assert set(scores[label]["by_type"]) == {"existence", "count", "position", "relation", "category"}
        assert {"chair", "recall", "seen", "unseen"} <= set(scores[label])
    assert (out / "report.html").stat().st_size > 20_000
    *_, report, chat = capsys.readouterr().out.strip().splitlines()
    assert report.endswith(str(out / "report.html"))
    command = chat.removeprefix("chat:").split()
    assert command[:2] == ["vistune", "chat"]
    assert (Path(command[2]) / "model.safetensors").is_file()
    assert Path(command[4]).is_file()
    weights = (out / "train/tune/model.safetensors").read_bytes()

    run_demo(out, 7, images=40, held_out=5)  # nothing is left to train
    assert (out / "train/tune/model.safetensors").read_bytes() == weights
