from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vistune.errors import DataError, RecipeError
from vistune.model.assistant import Assistant
from vistune.recipe import Recipe
from vistune.train.run import train

# The process kills itself, as by `kill -9`, when it is about to give a file its final name.
COMMAND = """
import os, signal, sys
from pathlib import Path
from vistune.recipe import Recipe
from vistune.train.run import train

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
train(Recipe.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


@pytest.fixture(scope="session")
def finished(make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """An uninterrupted run."""
    recipe, out = make_recipe(), tmp_path_factory.mktemp("finished") / "run"
    assert train(recipe, out) == out / "tune"
    return recipe, out


def _log(out: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]


def _bytes(out: Path) -> list[bytes]:
    return [(out / stage / "model.safetensors").read_bytes() for stage in ("align", "tune")]


def test_both_stages_learn_and_end_as_checkpoints(finished: tuple[Recipe, Path]) -> None:
    _, out = finished
    for stage in ("align", "tune"):
        log = _log(out, stage)
        assert [line["step"] for line in log] == ([3, 6, 9, 12] if stage == "align" else [3, 6, 9, 12, 13])
        assert log[-1]["loss"] < log[0]["loss"]
        assert not (out / stage / "state").exists()
        assert any((out / stage / "tensorboard").iterdir())
        assert isinstance(Assistant.load(out / stage, "cpu").answer([], max_new_tokens=1), list)
    before, after = (load_file(out / stage / "model.safetensors") for stage in ("align", "tune"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"language_model", "multi_modal_projector"}


def test_the_micro_batch_size_changes_nothing(make_recipe: Any, tmp_path: Path) -> None:
    weights, logs = [], []
    for size in (8, 4, 1):
        # AdamW enlarges rounding errors to a share of the learning rate, so it is small here
        recipe = make_recipe(batch_size=8, micro_batch_size=size, learning_rate=1e-3, epochs=2)
        weights.append(load_file(train(recipe, tmp_path / str(size)) / "model.safetensors"))
        logs.append(_log(tmp_path / str(size), "tune"))
    for other, log in zip(weights[1:], logs[1:], strict=True):
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, atol=1e-5, rtol=1e-5)
        assert [line["loss"] for line in log] == pytest.approx([line["loss"] for line in logs[0]], abs=1e-5)


def test_a_finished_run_is_left_as_it_is(finished: tuple[Recipe, Path]) -> None:
    recipe, out = finished
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    train(recipe, out)
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_killed_again_and_again_it_ends_with_the_same_weights(finished: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, out = finished
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    run = tmp_path / "run"
    for last in (
        "align/state/step-00000006.pt",  # a state is written, but not named: two steps and a log line are lost
        "align/config.json",  # all of a checkpoint is in its place but what makes it complete
        "tune/state/step-00000002.pt",  # before any state of the stage is there
        f"tune/state/step-{random.Random(0).randrange(4, 13, 2):08}.pt",
        "tune/model.safetensors",
    ):
        command = [sys.executable, "-c", COMMAND, str(tmp_path / "recipe.json"), str(run), last]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
        assert not (run / Path(last).parts[0] / "config.json").exists()
    with (run / "tune" / "log.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')  # a line that was cut off
    train(recipe, run)
    assert _bytes(run) == _bytes(out)
    for stage in ("align", "tune"):
        assert _log(run, stage) == _log(out, stage)


def test_another_recipe_or_other_data_in_the_same_folder_is_an_error(
    make_recipe: Any, finished: tuple[Recipe, Path]
) -> None:
    _, out = finished
    with pytest.raises(RecipeError, match=r"stages\.tune\.learning_rate was 0\.01, is 0\.5"):
        train(make_recipe(learning_rate=0.5), out)


def test_errors_come_before_any_training(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe()
    bad = tmp_path / "tune.json"
    bad.write_text('[{"id": "7", "image": "none.png", "conversations": [{"from": "human", "value": "<image>"}, '
                   '{"from": "gpt", "value": "a"}]}]')  # fmt: skip
    stages = [recipe.stages[0], recipe.stages[1].model_copy(update={"data": str(bad)})]
    with pytest.raises(DataError, match=r"tune\.json: id 7: its image .*none\.png is missing"):
        train(recipe.model_copy(update={"stages": stages}), tmp_path / "run")
    with pytest.raises(DataError, match="its first answer does not fit in 5 tokens"):
        train(make_recipe(max_length=5), tmp_path / "short")


def test_bf16_trains_and_saves_float32(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1).model_copy(update={"precision": "bf16"})
    weights = load_file(train(recipe, tmp_path) / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())
