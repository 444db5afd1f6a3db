from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vistune.errors import DataError, RecipeError, VistuneError
from vistune.evaluate import evaluate
from vistune.evaluate.run import check_leaks
from vistune.output_folder import locked
from vistune.records import Question

RECIPE = """
name: test
model: {{vision_tower: V, language_model: L, projector: linear}}
stages:
  - {{name: tune, data: {data}, images: {images}, trains: [projector], epochs: 1, batch_size: 1, micro_batch_size: 1,
     learning_rate: 0.1}}
"""


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_training_image_under_another_name_is_an_error_that_names_both(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    turns = [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": "!"}]
    for seed in range(5):
        picture(seed).save(images / f"train{seed}.png")
    rows = [{"id": str(seed), "image": f"train{seed}.png", "conversations": turns} for seed in range(5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(data=tmp_path / "rows.json", images=images))
    picture(3).save(tmp_path / "test.jpg", quality=70)
    picture(9).save(tmp_path / "new.png")
    console, checkpoint = Console(quiet=True), tmp_path / "tune"
    check_leaks([Question("1", "?", (tmp_path / "new.png",))], checkpoint, console)
    with pytest.raises(DataError, match=r"test\.jpg is in the training data: .*train3\.png"):
        check_leaks([Question("1", "?", (tmp_path / "test.jpg",))], checkpoint, console)
    check_leaks([Question("1", "?", (tmp_path / "test.jpg",))], tmp_path / "elsewhere" / "tune", console)


def test_evaluation_from_python(says: type, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text('{"image": "1.png", "question": "?", "answer": "yes"}\n')
    scores = evaluate(says(lambda *_: "Yes."), tmp_path / "out", questions=str(tmp_path / "test.jsonl"))
    assert scores.value("score") == 1
    assert (tmp_path / "out" / "recipe.yaml").is_file()
    with pytest.raises(RecipeError, match="did you mean"):
        evaluate(says(lambda *_: ""), tmp_path / "out", question="x")


def test_finished_results_of_other_weights_or_options_stay(says: type, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text('{"image": "1.png", "question": "?", "answer": "yes"}\n')
    given = {"questions": str(tmp_path / "test.jsonl")}
    evaluate(says(lambda *_: "Yes."), tmp_path / "out", **given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    evaluate(says(lambda *_: "Yes."), tmp_path / "out", **given, batch_size=3)
    with pytest.raises(VistuneError, match='results of another run are there: weights was "says", is "others"\n'):
        evaluate(says(lambda *_: "No.", "others"), tmp_path / "out", **given)
    with pytest.raises(VistuneError, match=r"limit was null, is 1\n  fix: choose .*--overwrite"):
        evaluate(says(lambda *_: "Yes."), tmp_path / "out", **given, limit=1)
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert all(after[name] == before[name] for name in ("answers.jsonl", "verdicts.jsonl", "scores.json"))
    assert evaluate(says(lambda *_: "No.", "others"), tmp_path / "out", **given, overwrite=True).value("score") == 0


def test_a_second_run_is_refused_before_its_model_is_opened(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text('{"image": "1.png", "question": "?", "answer": "yes"}\n')
    with locked(tmp_path / "out"), pytest.raises(VistuneError, match=r"out: another run is using this folder: .*"):
        evaluate(str(tmp_path / "no checkpoint"), tmp_path / "out", questions=str(tmp_path / "test.jsonl"))


def test_a_damaged_answer_is_named(says: type, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text('{"image": "1.png", "question": "?", "answer": "yes"}\n')
    given = {"questions": str(tmp_path / "test.jsonl")}
    evaluate(says(lambda *_: "Yes."), tmp_path / "out", **given)
    path = tmp_path / "out" / "answers.jsonl"
    for old, new in (('"Yes."', '"Yet."'), ('"text"', '"txet"'), ("{", "[")):
        whole = path.read_text()
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(DataError, match=r"answers\.jsonl: line 1: this line is damaged\n  fix: remove this line"):
            evaluate(says(lambda *_: "Yes."), tmp_path / "out", **given)
        path.write_text(whole)
