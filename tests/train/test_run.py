from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPVisionModel

from vistune.errors import CheckpointError, DataError, MissingPackageError, RecipeError, TrainingError, VistuneError
from vistune.model.assistant import Assistant
from vistune.output_folder import locked
from vistune.recipe import schema
from vistune.recipe.training import Recipe
from vistune.storage import find_damage
from vistune.train.run import train

MEASURED = ("samples_per_second", "tokens_per_second", "peak_memory_gb")


def _log(out: Path, stage: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def _hashes(out: Path) -> list[str]:
    return [sha256((out / stage / "model.safetensors").read_bytes()).hexdigest() for stage in ("align", "tune")]


def test_both_stages_learn_and_end_as_checkpoints(finished: tuple[Recipe, Path]) -> None:
    _, out = finished
    for stage in ("align", "tune"):
        log = _log(out, stage)
        assert [line["step"] for line in log] == ([3, 6, 9, 12] if stage == "align" else [3, 6, 9, 12, 13])
        assert log[-1]["loss"] < log[0]["loss"]
        states = [path.name for path in (out / stage / "state").iterdir()]
        assert states == (["step-00000012"] if stage == "tune" else [])  # the last stage's could be needed
        assert any((out / stage / "tensorboard").iterdir())
        assert isinstance(Assistant.load(out / stage, "cpu").answer([], max_new_tokens=1), list)
    before, after = (load_file(out / stage / "model.safetensors") for stage in ("align", "tune"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"language_model", "multi_modal_projector"}


def test_the_micro_batch_size_changes_nothing(make_recipe: Any, tmp_path: Path) -> None:
    weights, logs = [], []
    for size in (8, 2, 1):
        # AdamW enlarges rounding errors to a share of the learning rate, so it is small here; a twentieth of a step is
        # tolerated, as torch 2.7 rounds otherwise
        recipe = make_recipe(batch_size=8, micro_batch_size=size, learning_rate=1e-3, epochs=2)
        weights.append(load_file(train(recipe, tmp_path / str(size)) / "model.safetensors"))
        logs.append(_log(tmp_path / str(size), "tune"))
    for other, log in zip(weights[1:], logs[1:], strict=True):
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, atol=5e-5, rtol=1e-5)
        assert [line["loss"] for line in log] == pytest.approx([line["loss"] for line in logs[0]], abs=1e-5)


def test_a_finished_run_is_left_as_it_is(finished: tuple[Recipe, Path]) -> None:
    recipe, out = finished
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    train(recipe, out)
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_killed_again_and_again_it_ends_with_the_same_weights(
    finished: tuple[Recipe, Path], tmp_path: Path, kill: Any
) -> None:
    recipe, out = finished
    run = tmp_path / "run"
    for last in (
        "align/state/step-00000006",  # a state is written, but not named: two steps and a log line are lost
        "align/config.json",  # all of a checkpoint is in its place but what makes it complete
        "tune/state/step-00000002",  # before any state of the stage is there
        f"tune/state/step-{random.Random(0).randrange(4, 13, 2):08}",
        "tune/model.safetensors",
    ):
        killed = kill(recipe, run, last)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        assert not (run / Path(last).parts[0] / "config.json").exists()
    with (run / "tune" / "log.jsonl").open("ab") as file:
        file.write(b'\xf3\0\n{"step": 99, "lo')  # a damaged line, and one that was cut off
    train(recipe, run)
    assert _hashes(run) == _hashes(out)
    for stage in ("align", "tune"):
        assert _log(run, stage) == _log(out, stage)
        board = EventAccumulator(str(run / stage / "tensorboard"))
        board.Reload()
        assert [event.step for event in board.Scalars("train/loss")] == [line["step"] for line in _log(out, stage)]


def test_killed_while_adapters_with_dropout_train_it_ends_with_the_same_weights(
    make_recipe: Any, tmp_path: Path, kill: Any
) -> None:
    content = make_recipe(epochs=2).model_dump()
    content["stages"][1] |= {"trains": ["projector", "lora"], "lora": {"rank": 4, "alpha": 8, "dropout": 0.2}}
    recipe = Recipe.model_validate(content)
    train(recipe, tmp_path / "whole")
    for last in ("tune/state/step-00000004", "tune/adapter/adapter_model.safetensors", "tune/config.json"):
        killed = kill(recipe, tmp_path / "run", last)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    train(recipe, tmp_path / "run")
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")]
    assert len(files) == 5  # two checkpoints, adapters, a state's two
    for file in files:
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.fixture(scope="session")
def almost(finished: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory, kill: Any) -> Path:
    """A run that was killed when only the last checkpoint's last file was not in its place."""
    run = tmp_path_factory.mktemp("almost") / "run"
    killed = kill(finished[0], run, "tune/config.json")
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    return run


def _harm(path: Path, how: int) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes([content, content[:-1], b""][how % 3])


STATE_FILES = ("manifest.json", "optimizer.safetensors", "progress.json", "weights.safetensors")


@pytest.mark.parametrize("name", STATE_FILES)
def test_a_damaged_state_is_named_and_the_one_before_is_used(
    finished: tuple[Recipe, Path], almost: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, out = finished
    run = Path(shutil.copytree(almost, tmp_path / "run"))
    states = sorted((run / "tune" / "state").iterdir())
    assert [state.name for state in states] == ["step-00000010", "step-00000012"]
    assert tuple(sorted(file.name for file in states[-1].iterdir())) == STATE_FILES
    _harm(states[-1] / name, STATE_FILES.index(name))
    train(recipe, run)
    assert f"damaged state: {states[-1] / name} " in capfd.readouterr().err
    assert _hashes(run) == _hashes(out)


def test_a_damaged_checkpoint_is_named_and_made_again(
    finished: tuple[Recipe, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, out = finished
    for number, name in enumerate(("config.json", "model.safetensors", "manifest.json")):
        run = Path(shutil.copytree(out, tmp_path / name))
        _harm(run / "tune" / name, number)
        train(recipe, run)
        assert f"damaged checkpoint: {run / 'tune' / name} " in capfd.readouterr().err
        assert _hashes(run) == _hashes(out)
        assert find_damage(run / "tune") is None


def test_a_stage_never_starts_from_a_damaged_checkpoint(
    finished: tuple[Recipe, Path], almost: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, out = finished
    run = Path(shutil.copytree(almost, tmp_path / "run"))
    _harm(run / "align" / "model.safetensors", 0)
    train(recipe, run)  # the stage's state is still there
    assert "damaged checkpoint: " in capfd.readouterr().err
    assert _hashes(run) == _hashes(out)
    run = Path(shutil.copytree(almost, tmp_path / "other"))
    _harm(run / "align" / "model.safetensors", 0)
    shutil.rmtree(run / "align" / "state")
    with pytest.raises(CheckpointError, match=r"model\.safetensors has other content.*\n  fix: restore the file, or"):
        train(recipe, run)


def test_a_run_does_not_start_from_a_damaged_checkpoint_nor_tidies_its_states(
    make_recipe: Any, almost: Path, tmp_path: Path
) -> None:
    before = Path(shutil.copytree(almost / "align", tmp_path / "before"))
    states = sorted((before / "state").iterdir())
    assert states
    content = make_recipe(epochs=0.1).model_dump() | {"model": None, "start": str(before)}
    recipe = Recipe.model_validate(content)
    train(recipe, tmp_path / "run")
    assert sorted((before / "state").iterdir()) == states
    _harm(before / "model.safetensors", 0)
    with pytest.raises(CheckpointError, match=r"the checkpoint to start from is damaged: .*model\.safetensors"):
        train(recipe, tmp_path / "other")


def test_another_recipe_or_other_data_in_the_same_folder_is_an_error(
    make_recipe: Any, finished: tuple[Recipe, Path]
) -> None:
    _, out = finished
    with pytest.raises(RecipeError, match=r"stages\.tune\.learning_rate was 0\.01, is 0\.5"):
        train(make_recipe(learning_rate=0.5, log_every=1), out)
    with pytest.raises(RecipeError, match=r"stages\.align\.data\.1\.weight was 'not there', is 0\.5"):
        train(make_recipe(data=[{"path": "a"}, {"path": "b", "weight": 0.5}]), out)


def test_what_makes_no_difference_to_the_result_may_change(
    make_recipe: Any, finished: tuple[Recipe, Path], almost: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(almost, tmp_path / "run"))
    recipe = make_recipe(log_every=1, checkpoint_every=100).model_copy(update={"log_to": []})
    train(recipe, run)
    assert schema.load(Recipe, run / "recipe.yaml") == recipe
    assert _hashes(run) == _hashes(finished[1])


def test_errors_come_before_any_training(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe()
    bad = tmp_path / "tune.json"
    bad.write_text('[{"id": "7", "image": "none.png", "conversations": [{"from": "human", "value": "<image>"}, '
                   '{"from": "gpt", "value": "a"}]}]')  # fmt: skip
    stages = [recipe.stages[0], recipe.stages[1].model_copy(update={"data": str(bad)})]
    with pytest.raises(DataError, match=r"tune\.json: record 0 \(id 7\): its image .*none\.png is missing"):
        train(recipe.model_copy(update={"stages": stages}), tmp_path / "run")
    with pytest.raises(DataError, match="its first answer does not fit in 5 tokens"):
        train(make_recipe(max_length=5), tmp_path / "short")


def test_a_plain_stage_does_not_drop_questions(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe()
    tune = recipe.stages[1].data
    asks = tmp_path / "asks.json"
    asks.write_text(Path(recipe.stages[0].data).read_text().replace("what is it", "what is it?"))
    for data in (tune, str(asks)):
        align = recipe.stages[0].model_copy(update={"data": data})
        with pytest.raises(DataError, match="leaves questions out, and this data has questions"):
            train(recipe.model_copy(update={"stages": [align]}), tmp_path / "run")
    # instructions of ours for captions may be questions
    asks.write_text(asks.read_text().replace("what is it?", "What is this a picture of?"))
    train(recipe.model_copy(update={"stages": [align]}), tmp_path / "run")


def test_a_missing_tracker_is_reported_before_any_training(make_recipe: Any, tmp_path: Path) -> None:
    name = "trackio" if find_spec("trackio") is None else "wandb"
    if find_spec(name) is not None:
        pytest.skip("both are installed")
    with pytest.raises(
        MissingPackageError, match=f"log_to: logging to {name} needs the package {name}\n  fix: pip install {name}"
    ):
        train(make_recipe().model_copy(update={"log_to": ["tensorboard", name]}), tmp_path)
    assert not (tmp_path / "align").exists()


def test_a_stage_may_be_called_features_and_other_folders_stay(make_recipe: Any, tmp_path: Path) -> None:
    for mine in ("features", ".features"):
        (tmp_path / mine).mkdir()
        (tmp_path / mine / "thesis.txt").write_text("precious")
    recipe = make_recipe(epochs=1.5)
    recipe = recipe.model_copy(update={"stages": [recipe.stages[0].model_copy(update={"name": "features"})]})
    assert train(recipe, tmp_path) == tmp_path / "features"
    assert Assistant.load(tmp_path / "features", "cpu")
    assert (tmp_path / "features" / "thesis.txt").read_text() == "precious"
    assert [path.name for path in (tmp_path / ".features").iterdir()] == ["thesis.txt"]


def test_a_users_model_in_a_stages_folder_is_not_replaced(make_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "model.safetensors").write_text("precious")
    with pytest.raises(CheckpointError, match=r"tune.model\.safetensors: .* would replace this file\n  fix: choose"):
        train(make_recipe(), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["tune", "model.safetensors"]


def test_a_recipe_that_a_user_has_written_into_the_folder_stays(make_recipe: Any, tmp_path: Path) -> None:
    recipe, mine = make_recipe(epochs=0.4), tmp_path / "recipe.yaml"
    schema.save(recipe, mine)
    text = "# my notes\n" + mine.read_text()
    mine.write_text(text)
    train(recipe, tmp_path)
    assert mine.read_text() == text
    with pytest.raises(RecipeError, match=r"recipe\.yaml: this is another recipe than the one to train\n  fix: "):
        train(make_recipe(epochs=0.4, log_every=1), tmp_path)
    assert mine.read_text() == text


def test_a_second_training_in_the_same_folder_is_refused(
    finished: tuple[Recipe, Path], tmp_path: Path, start: Any
) -> None:
    recipe, out = finished
    with locked(tmp_path / "run"):
        first = start("from vistune.train.run import train\ntrain(recipe, out)", recipe=recipe, out=tmp_path / "run")
        first.join()
        assert first.exitcode == 1
        with pytest.raises(VistuneError, match=rf"another run is using this folder: process {os.getpid()} "):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run")
    assert _hashes(tmp_path / "run") == _hashes(out)


def test_a_failed_start_leaves_its_folder_to_another_recipe(make_recipe: Any, tmp_path: Path) -> None:
    recipe, run = make_recipe(epochs=0.4), tmp_path / "run"
    wrong = recipe.model_copy(update={"model": recipe.model.model_copy(update={"vision_tower": str(tmp_path)})})
    for broken, error in ((wrong, CheckpointError), (make_recipe(data=str(tmp_path / "none.json")), DataError)):
        with pytest.raises(error):
            train(broken, run)
        assert not run.exists()
    run.mkdir()
    schema.save(wrong, run / "recipe.yaml")  # as an earlier version left it
    train(recipe, run)
    assert schema.load(Recipe, run / "recipe.yaml") == recipe
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipe.yaml").write_text("teacher: symbolic\n")
    with pytest.raises(RecipeError, match=r"other.recipe\.yaml: "):
        train(recipe, tmp_path / "other")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_states(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe(learning_rate=1e25, warmup_ratio=0, checkpoint_every=1, log_every=1)
    with pytest.raises(TrainingError) as caught:
        train(recipe.model_copy(update={"stages": recipe.stages[1:]}), tmp_path)
    steps = [line["step"] for line in _log(tmp_path, "tune")]  # every line is JSON
    state = tmp_path / "tune" / "state" / f"step-{steps[-1]:08}"
    what = rf"stages\.tune: .*nan in step {steps[-1] + 1}/13, on the conversations (\d+, ){{3}}\d+\n  fix: .*{state}"
    assert re.search(what, str(caught.value))
    assert caught.value.exit_code == 2
    assert all(weight.isfinite().all() for weight in load_file(state / "weights.safetensors").values())
    assert "NaN" not in (tmp_path / "tune" / "log.jsonl").read_text()
    assert not (tmp_path / "tune" / "config.json").exists()


def test_bf16_trains_and_saves_float32(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1).model_copy(update={"precision": "bf16"})
    weights = load_file(train(recipe, tmp_path) / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())


def test_kept_features_change_nothing_and_spare_the_tower(
    make_recipe: Any, finished: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = finished
    seen: list[int] = []
    see = CLIPVisionModel.forward

    def count(self: Any, pixel_values: Any, **options: Any) -> Any:
        seen.append(len(pixel_values))
        return see(self, pixel_values, **options)

    monkeypatch.setattr(CLIPVisionModel, "forward", count)
    counts = []
    for room in (0, 20):
        run = tmp_path / str(room)
        train(make_recipe().model_copy(update={"feature_cache_gb": room}), run)
        assert _hashes(run) == _hashes(out)
        assert not (run / ".features").exists()
        counts.append(sum(seen))
        seen.clear()
    images = {turn["image"] for turn in json.loads(Path(make_recipe().stages[1].data).read_text())}
    assert counts[1] <= 2 * len(images) < counts[0]  # an image that two steps in a row want may be seen twice
