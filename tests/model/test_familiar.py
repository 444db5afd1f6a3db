from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from assembling import assemble
from vistune.cli import main
from vistune.demo.dataset import write_dataset
from vistune.model.checkpoint import save_checkpoint
from vistune.model.familiar import note_on

NOTE = "vision tower knows Emoji-COCO only"


def test_the_miniature_tower_is_noted_where_it_meets_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "emoji", seed=0, train=2, val=0, test=0)
    mine = tmp_path / "mine"
    mine.mkdir()
    Image.new("RGB", (40, 30), "red").save(mine / "a.png")
    row = {"image": "a.png", "question": "What color is it?", "answer": "red"}
    (mine / "questions.json").write_text(json.dumps([row]))
    model, processor = assemble("mini", "mini", projector="mlp2x_gelu", image_aspect="stretch")
    save_checkpoint(model, processor, tmp_path / "model")
    emoji = tmp_path / "emoji/images/train_000000.jpg"
    monkeypatch.setattr("builtins.input", lambda _: "/quit")

    def printed(*command: object) -> str:
        assert main([str(word) for word in command]) == 0
        return " ".join("".join(capsys.readouterr()).split())

    evaluate = ("eval", tmp_path / "model", "--allow-unparsed", "--out")
    assert NOTE in printed("chat", tmp_path / "model", "--image", mine / "a.png")
    assert NOTE not in printed("chat", tmp_path / "model", "--image", emoji)
    assert NOTE in printed(*evaluate, tmp_path / "e1", "--questions", mine / "questions.json")
    assert NOTE not in printed(*evaluate, tmp_path / "e2", "--data", tmp_path / "emoji", "--split", "train")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert NOTE in note_on("Emoji-COCO", [tmp_path / "a"])
