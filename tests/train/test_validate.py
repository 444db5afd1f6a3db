"""The loss on held-out data, and ending early by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vistune.data.collate import collate
from vistune.data.dataset import Dataset, open_sources
from vistune.data.encode import Encoder
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore
from vistune.errors import CheckpointError
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.vision import image_grid
from vistune.recipe.training import Recipe
from vistune.train.run import train
from vistune.train.target_loss import TargetLoss


def _with(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with its tune stage changed; it is validated on its own data of stage 1 and 2."""
    tune = recipe.stages[1]
    held_out = [{"path": recipe.stages[0].data}, {"path": tune.data}]
    content = recipe.model_dump()
    content["stages"][1] |= {"validation_data": held_out, "validate_every": 4, **changes}
    return Recipe.model_validate(content)


def _lines(out: Path, key: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "tune" / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def _loss(recipe: Recipe, out: Path) -> float:
    """The loss of the finished stage's checkpoint on its validation data, one conversation at a time."""
    model, processor = open_checkpoint(out / "tune")
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    dataset = Dataset(open_sources(recipe.stages[1].sources(validation=True)), encoder, 2048)
    store = ImageStore(dataset.image, processor.image_processor)
    batches = [collate(make_groups([sample]), store.get) for sample in dataset.preview]
    module = TargetLoss(model)
    with torch.no_grad():
        return sum(float(module(batch)) for batch in batches) / sum(len(batch.targets) for batch in batches)


def _assert_shows_answers(folder: Path) -> None:
    """TensorBoard has a few held-out images and the answers to the questions about them."""
    shown = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload()
    assert shown.Tags()["images"] == [f"images/{number}" for number in range(4)]
    for number in range(4):
        events = shown.Tensors(f"answers/{number}/text_summary")
        assert [event.step for event in events] == [4, 8, 12, 13]
        question, answer, reference = events[0].tensor_proto.string_val[0].decode().split("\n\n")
        assert question == "**what is it**"
        assert reference.startswith("*reference:* ")
        assert answer


def test_validation_changes_nothing_but_the_log(finished: Any, make_recipe: Any, tmp_path: Path) -> None:
    _, out = finished
    run = tmp_path / "run"
    train(_with(make_recipe()), run)
    assert (run / "tune" / "model.safetensors").read_bytes() == (out / "tune" / "model.safetensors").read_bytes()
    assert _lines(run, "loss") == _lines(out, "loss")
    losses = _lines(run, "val_loss")
    assert list(losses) == [4, 8, 12, 13]
    _assert_shows_answers(run / "tune/tensorboard")
    assert losses[13] < losses[4]
    assert losses[13] == pytest.approx(_loss(_with(make_recipe()), run), rel=1e-5)
    board = EventAccumulator(str(run / "tune" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("val/loss")] == [4, 8, 12, 13]
    assert [event.step for event in board.Scalars("train/loss")] == [3, 6, 9, 12, 13]


def _early(make_recipe: Any) -> Recipe:
    """Other data than it trains on, and a learning rate that soon is too high."""
    recipe = make_recipe(learning_rate=0.1, schedule="constant")
    return _with(recipe, validation_data=recipe.stages[0].data, early_stopping=2, validate_every=2, epochs=8)


def test_early_stopping_ends_the_stage_with_the_best_weights(make_recipe: Any, tmp_path: Path, kill: Any) -> None:
    recipe = _early(make_recipe)
    out = tmp_path / "whole"
    train(recipe, out)
    losses = _lines(out, "val_loss")
    best = min(losses, key=losses.__getitem__)
    assert list(losses)[-1] == best + 4 < 26
    assert _loss(recipe, out) == pytest.approx(losses[best], rel=1e-5)
    assert _loss(recipe, out) < list(losses.values())[-1] - 0.01
    for last in (f"state/step-{best:08}", f"state/step-{best + 2:08}", "tune/config.json"):
        run = tmp_path / last.replace("/", "-")
        killed = kill(recipe, run, last)
        killed.join()
        assert killed.exitcode != 0
        train(recipe, run)
        assert (run / "tune" / "model.safetensors").read_bytes() == (out / "tune" / "model.safetensors").read_bytes()
        assert _lines(run, "val_loss") == losses


def test_a_damaged_checkpoint_of_a_stage_that_ended_early_is_made_again(make_recipe: Any, tmp_path: Path) -> None:
    recipe = _early(make_recipe)
    train(recipe, tmp_path)
    weights = tmp_path / "tune" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    train(recipe, tmp_path)
    assert weights.read_bytes() == whole
    best, *_ = sorted((tmp_path / "tune" / "state").iterdir())
    (best / "weights.safetensors").write_bytes(b"")
    weights.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=f"{best.name}/weights.safetensors has 0 bytes"):
        train(recipe, tmp_path)


def test_early_stopping_needs_data_to_judge_by(make_recipe: Any) -> None:
    with pytest.raises(ValidationError, match="early_stopping needs validation_data"):
        make_recipe(early_stopping=3)
