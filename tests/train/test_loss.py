from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from assembling import assemble
from vistune.data.collate import Batch, collate
from vistune.data.dataset import open_sources
from vistune.data.encode import Encoder, Sample
from vistune.data.groups import Group, make_groups
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageStore, read_image
from vistune.data.loader import share_out
from vistune.model.checkpoint import load_checkpoint
from vistune.recipe.training import Part, Recipe
from vistune.train.optimizer import schedule
from vistune.train.run import train
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss


def _samples(recipe: Recipe, processor: Any) -> list[Sample]:
    (conversations,) = open_sources(recipe.stages[1].sources())
    encoder = Encoder(processor.tokenizer, processor.chat_template, ImageGrid(4))
    return [encoder.encode(conversation, 500) for conversation in conversations]


def _packed(samples: list[Sample], processor: Any) -> Batch:
    store = ImageStore(lambda name: read_image(Path(name)), processor.image_processor)
    return collate(make_groups(samples), store.get)


def _assembled(recipe: Recipe) -> tuple[Any, Any]:
    return assemble(recipe.model.vision_tower, recipe.model.language_model, projector="mlp2x_gelu")


def _plain(samples: list[Sample], processor: Any) -> dict[str, Tensor]:
    """The same conversations as transformers takes them: one a row, padded."""
    store = ImageStore(lambda name: read_image(Path(name)), processor.image_processor)
    ids = [torch.from_numpy(sample.input_ids).long() for sample in samples]
    labels = [
        one.masked_fill(~torch.from_numpy(sample.targets), -100) for one, sample in zip(ids, samples, strict=True)
    ]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=processor.tokenizer.pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "pixel_values": torch.cat([store.get(name, 1) for sample in samples for name in sample.images]),
    }


def test_loss_and_gradients_are_those_of_transformers_with_its_mask(make_recipe: Any) -> None:
    recipe = make_recipe()
    model, processor = _assembled(recipe)
    samples = _samples(recipe, processor)
    samples += [replace(sample, input_ids=sample.input_ids.copy()) for sample in samples[:4]]  # two about one image
    for sample in samples[-4:]:
        sample.input_ids[-3] = 20
    batch = _packed(samples, processor)
    assert len(batch.input_ids) < sum(len(sample.input_ids) for sample in samples)
    freeze(model, ["projector", "language"])
    ours = TargetLoss(model)(batch) / len(batch.targets)
    ours.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    model.set_attn_implementation("eager")
    theirs = model(**_plain(samples, processor)).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    assert gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-6, rtol=1e-4)


def test_only_what_a_stage_trains_has_gradients(make_recipe: Any) -> None:
    recipe = make_recipe()
    model, processor = _assembled(recipe)
    batch = _packed(_samples(recipe, processor), processor)
    for trains, beginnings in (
        (["projector"], ("model.multi_modal_projector.",)),
        (["projector", "language"], ("model.multi_modal_projector.", "model.language_model.", "lm_head.")),
        (["projector", "vision"], ("model.multi_modal_projector.", "model.vision_tower.")),
    ):
        freeze(model, trains)
        model.zero_grad(set_to_none=True)
        TargetLoss(model)(batch).backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained == {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert {name.split(".")[1] for name in trained} == {
            start.split(".")[1] for start in beginnings if start[0] == "m"
        }


@pytest.mark.parametrize(("sizes", "parts"), [((3, 1, 1, 2), 3), ((4,), 4), ((1, 5), 4)])
def test_groups_are_shared_out_in_parts_none_of_which_is_empty(sizes: tuple[int, ...], parts: int) -> None:
    groups = []
    for number, size in enumerate(sizes):
        ids = [np.arange(4 + number + i, dtype=np.int32) for i in range(size)]
        samples = [
            Sample(f"{number}.{i}", one, one > 2, (), (), np.empty(0, dtype=np.int32)) for i, one in enumerate(ids)
        ]
        groups.append(Group(tuple(samples), 2))
    shares = share_out(groups, parts)
    assert len(shares) == parts
    assert all(shares)
    texts = sorted(sample.id for share in shares for group in share for sample in group.samples)
    assert texts == sorted(sample.id for group in groups for sample in group.samples)
    with pytest.raises(ValueError, match="cannot be shared out"):
        share_out(groups, 100)


def test_the_learning_rate_warms_up_and_follows_its_schedule(make_recipe: Any) -> None:
    shares = {}
    for name in ("cosine", "linear", "constant"):
        stage = make_recipe(warmup_ratio=0.1, schedule=name).stages[0]
        shares[name] = [schedule(step, 100, stage) for step in range(100)]
        assert shares[name][:10] == [(step + 1) / 10 for step in range(10)]
        assert shares[name][10] == 1
    assert shares["cosine"][55] == pytest.approx(0.5)
    assert 0 < shares["cosine"][99] < 0.0005
    assert shares["linear"][55] == pytest.approx(0.5)
    assert shares["linear"][99] == pytest.approx(1 / 90)
    assert set(shares["constant"][10:]) == {1}


def test_a_part_may_have_its_own_learning_rate(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=0.4)
    rates = {"learning_rates": {"projector": 1e-9}}
    stages = [recipe.stages[0], recipe.stages[1].model_copy(update=rates)]
    train(recipe.model_copy(update={"stages": stages}), tmp_path)
    align, tune = (load_checkpoint(tmp_path / name)[0].state_dict() for name in ("align", "tune"))
    moved = {
        name.removeprefix("model.").split(".")[0]
        for name in align
        if not torch.allclose(align[name], tune[name], atol=1e-6)
    }
    assert moved == {"language_model", "lm_head"}


@pytest.mark.parametrize("trains", [["projector"], ["projector", "language"]])
def test_layers_computed_again_give_the_same_gradients(make_recipe: Any, trains: list[Part]) -> None:
    recipe = make_recipe()
    model, processor = _assembled(recipe)
    batch = _packed(_samples(recipe, processor), processor)
    first: Any = model.model.language_model.layers[0]
    calls: list[int] = []
    first.mlp.register_forward_pre_hook(lambda *_: calls.append(1) or None)
    found = []
    for share, times in ((0.0, 1), (1.0, 2)):
        freeze(model, trains)
        model.zero_grad(set_to_none=True)
        loss = TargetLoss(model, recompute=share)
        loss(batch).backward()
        loss.close()
        assert len(calls) == times
        calls.clear()
        found.append([weight.grad for weight in model.parameters() if weight.grad is not None])
    assert len(found[0]) == len(found[1]) > 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
