from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vistune.data.collate import Batch, collate
from vistune.data.encode import Encoder
from vistune.data.images import ImageStore
from vistune.data.llava_json import read_conversations
from vistune.data.loader import step_order
from vistune.model.assemble import assemble
from vistune.recipe import Recipe
from vistune.train.loop import learning_rate
from vistune.train.stages import TargetLoss, freeze


def _batch(recipe: Recipe, processor: Any) -> Batch:
    stage = recipe.stages[1]
    conversations = read_conversations(Path(stage.data), Path(stage.images))
    samples = Encoder(processor.tokenizer, processor.chat_template, 4).encode_all(conversations, 500)
    store = ImageStore(Path(stage.images), processor.image_processor)
    pixels = [store.get(sample.image) for sample in samples if sample.image]
    return collate(samples, pixels, processor.tokenizer.pad_token_id)


def _assembled(recipe: Recipe) -> tuple[Any, Any]:
    return assemble(recipe.model.vision_tower, recipe.model.language_model, projector="mlp2x_gelu")


def test_loss_and_gradients_are_those_of_transformers_with_its_mask(make_recipe: Any) -> None:
    recipe = make_recipe()
    model, processor = _assembled(recipe)
    batch = _batch(recipe, processor)
    targets = int((batch["labels"] != -100).sum())
    freeze(model, ["projector", "language"])
    ours = TargetLoss(model)(batch["input_ids"], batch["labels"], batch["pixel_values"]) / targets
    ours.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    theirs = model(**batch).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    assert gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-6, rtol=1e-4)


def test_only_what_a_stage_trains_has_gradients(make_recipe: Any) -> None:
    recipe = make_recipe()
    model, processor = _assembled(recipe)
    batch = _batch(recipe, processor)
    for trains, beginnings in (
        (["projector"], ("model.multi_modal_projector.",)),
        (["projector", "language"], ("model.multi_modal_projector.", "model.language_model.", "lm_head.")),
        (["projector", "vision"], ("model.multi_modal_projector.", "model.vision_tower.")),
    ):
        freeze(model, trains)
        model.zero_grad(set_to_none=True)
        TargetLoss(model)(batch["input_ids"], batch["labels"], batch["pixel_values"]).backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained == {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert {name.split(".")[1] for name in trained} == {
            start.split(".")[1] for start in beginnings if start[0] == "m"
        }


def test_the_order_of_the_data_is_whole_epochs_without_gaps() -> None:
    run = [index for step in range(15) for index in step_order(10, 4, 3, step)]
    assert all(sorted(run[start : start + 10]) == list(range(10)) for start in range(0, 60, 10))
    assert run[:10] != run[10:20]
    assert step_order(3, 8, 0, 0)[:3] != list(range(8))
    assert len(step_order(3, 8, 0, 5)) == 8


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(make_recipe: Any) -> None:
    stage = make_recipe(warmup_ratio=0.1, learning_rate=2.0).stages[0]
    rates = [learning_rate(step, 100, stage) for step in range(100)]
    assert rates[:10] == [2.0 * (step + 1) / 10 for step in range(10)]
    assert rates[10] == 2.0
    assert abs(rates[55] - 1.0) < 1e-9
    assert 0 < rates[99] < 0.001
