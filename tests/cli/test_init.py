from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vistune.cli import main
from vistune.demo.dataset import write_dataset
from vistune.recipe import schema
from vistune.recipe.training import Recipe


def test_a_recipe_for_questions_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    data, recipe = tmp_path / "own.jsonl", tmp_path / "recipe.yaml"
    data.write_text(json.dumps({"image": "a.png", "question": "q", "answer": "a"}))
    assert main(["init", str(data), "--out", str(recipe)]) == 0
    [stage] = schema.load(Recipe, recipe).stages
    assert (stage.data, stage.images) == (str(data), str(tmp_path / "images"))
    assert "# or any LLaVA" in recipe.read_text()  # the comments stay
    assert main(["init", str(data), "--out", str(recipe)]) == 2
    assert main(["init", str(data), "--recipe", "mini", "--out", f"{recipe}2"]) == 2
    messages = capsys.readouterr().err
    assert "there is such a file already" in messages
    assert f"the recipe has a stage 'align' for captions, and {data} has none" in messages


def test_what_generate_wrote_fills_both_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, recipe = tmp_path / "data", tmp_path / "data-instruct", tmp_path / "recipe.yaml"
    write_dataset(data, seed=0, train=4, val=1, test=1)
    assert main(["init", str(data), "--out", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert f"annotated images (coco), not conversations\n  fix: vistune generate {data} --out {out}, then" in error
    assert main(["generate", str(data), "--split", "train", "--out", str(out)]) == 0
    assert main(["init", str(out), "--recipe", "mini", "--out", str(recipe)]) == 0
    stages = schema.load(Recipe, recipe).stages
    assert [stage.data for stage in stages] == [str(out / "align.json"), str(out / "instruct.json")]
    assert {stage.images for stage in stages} == {str(data)}
