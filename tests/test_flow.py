"""The whole flow from the command line, on eight images with tiny random backbones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.cli import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """A folder with the outputs of every command: `emoji`, `instruct`, `run`, `scores`."""
    folder = tmp_path_factory.mktemp("flow")
    sizes = ["--train", "8", "--val", "0", "--test", "3"]
    assert main(["demo-data", "--out", f"{folder}/emoji", *sizes]) == 0
    assert main(["generate", f"{folder}/emoji", "--out", f"{folder}/instruct"]) == 0
    assert main(train(folder, backbones)) == 0
    scored = ["--data", f"{folder}/emoji", "--out", f"{folder}/scores", "--limit", "2"]
    assert main(["eval", f"{folder}/run/tune", *scored]) == 0
    return folder


def train(folder: Path, backbones: Path, *changes: str) -> list[str]:
    """The command that trains the mini recipe on what the commands before wrote."""
    settings = [
        f"model.vision_tower={backbones}/vision", f"model.language_model={backbones}/language",
        f"stages.align.data={folder}/instruct/align.json", f"stages.tune.data={folder}/instruct/instruct.json",
        *(f"stages.{stage}.{key}" for stage in ("align", "tune")
          for key in (f"images={folder}/emoji", "batch_size=4", "micro_batch_size=2", "epochs=0.5")),
        f"evaluation.data={folder}/emoji", "evaluation.limit=1", "stages.tune.evaluate_every=2", *changes,
    ]  # fmt: skip
    recipe = [str(ROOT / "recipes" / "mini.yaml"), "--out", f"{folder}/run"]
    return ["train", *recipe, *(part for setting in settings for part in ("--set", setting))]


def test_generate_writes_both_stages_data_with_paths_below_the_data_set(run: Path) -> None:
    for name in ("align", "instruct"):
        rows = json.loads((run / "instruct" / f"{name}.json").read_text())
        assert len({row["image"] for row in rows}) == 8
        assert all((run / "emoji" / row["image"]).is_file() for row in rows)


def test_train_leaves_a_checkpoint_and_a_log_for_each_stage(run: Path) -> None:
    for stage in ("align", "tune"):
        assert (run / "run" / stage / "model.safetensors").is_file()
        lines = [json.loads(line) for line in (run / "run" / stage / "log.jsonl").read_text().splitlines()]
        assert any("loss" in line for line in lines)
    assert 0 <= lines[-1]["eval_scene_qa_accuracy"] <= 1


def test_eval_scores_the_checkpoint(run: Path) -> None:
    scores = json.loads((run / "scores" / "scores.json").read_text())
    assert 0 <= scores["accuracy"] <= 1
    answers = [json.loads(line) for line in (run / "scores" / "answers.jsonl").read_text().splitlines()]
    assert len({image for answer in answers for image in answer["images"]}) == 2


def test_the_same_commands_again_change_nothing(run: Path, backbones: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in run.rglob("*.*") if file.suffix != ".sqlite"}

    before = content()
    assert main(["generate", f"{run}/emoji", "--out", f"{run}/instruct"]) == 0
    assert main(train(run, backbones)) == 0
    assert content() == before


def test_another_recipe_in_the_same_folder_is_refused(
    run: Path, backbones: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(run, backbones, "stages.tune.learning_rate=0.5")) == 2
    error = capsys.readouterr().err
    assert error.startswith("loading ...\nerror: ")
    assert str(run / "run") in error
