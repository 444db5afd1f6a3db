"""DPO's loss is the formula computed with transformers' own padded forward pass; a stage learns from pairs by it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from assembling import assemble
from vistune.data.collate import collate
from vistune.data.dataset import Dataset, open_sources
from vistune.data.encode import Encoder, Sample
from vistune.data.groups import make_groups
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageStore
from vistune.data.loader import share_out
from vistune.errors import DataError, RecipeError
from vistune.model.adapters import add_lora
from vistune.recipe import schema
from vistune.recipe.training import DataRecipe, Recipe
from vistune.train.loop import seed_step
from vistune.train.plan import plan
from vistune.train.preference_loss import PreferenceLoss
from vistune.train.run import train
from vistune.train.stages import freeze


def _dataset(dpo: Recipe, processor: Any) -> Dataset:
    encoder = Encoder(processor.tokenizer, processor.chat_template, ImageGrid(4))
    return Dataset(open_sources(dpo.stages[0].sources()), encoder, 500)


def _log_likelihoods(model: Any, samples: list[Sample], store: ImageStore, pad: int) -> Tensor:
    """Of each sample's answer, by a padded forward pass."""
    ids = [torch.from_numpy(sample.input_ids).long() for sample in samples]
    learned = pad_sequence([torch.from_numpy(sample.targets) for sample in samples], batch_first=True)[:, 1:]
    rows = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "pixel_values": torch.cat([store.get(name, 1) for sample in samples for name in sample.images]),
    }
    logits = model(**rows).logits[:, :-1].log_softmax(-1)
    each = logits.gather(2, rows["input_ids"][:, 1:, None])[..., 0]
    total: Tensor = (each * learned).sum(1)
    return total


@pytest.mark.parametrize("rpo_alpha", [0.0, 0.7])
def test_loss_gradients_and_rewards_are_those_of_the_formula(rpo_alpha: float, dpo: Recipe) -> None:
    assert dpo.model
    model, processor = assemble(dpo.model.vision_tower, dpo.model.language_model, projector="linear")
    dataset = _dataset(dpo, processor)
    store = ImageStore(dataset.image, processor.image_processor)
    pairs = [sample for index in range(len(dataset)) if (sample := dataset.get(index))]
    groups = make_groups(pairs)
    prompts = [int(pair.targets.argmax()) for pair in pairs]
    assert [group.shared for group in groups] == [length - 1 for length in prompts]  # the question, too
    assert sum(pair.targets.sum() for pair in pairs) == 12 * pairs[0].targets.sum()  # not the answer before

    base = copy.deepcopy(model)
    settings, beta = dpo.stages[0].lora, dpo.stages[0].beta
    assert settings
    add_lora(model, settings, seed=0)
    freeze(model, ["lora"])
    seed_step(1, 0, 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B" in name:
                weight.normal_(std=0.3)
    loss = PreferenceLoss(model, beta=beta, rpo_alpha=rpo_alpha)
    ours = loss(collate(groups, store.get), 1 / len(groups))
    ours.backward()
    figures = dict(zip(loss.figures, (loss.take_figures() / len(groups)).tolist(), strict=True))
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    loss.close()

    model.set_attn_implementation("eager")
    samples = [*pairs, *(pair.rejected for pair in pairs if pair.rejected)]
    pad = processor.tokenizer.pad_token_id
    own = _log_likelihoods(model, samples, store, pad)
    with torch.no_grad():
        reference = _log_likelihoods(base, samples, store, pad)
    chosen, rejected = (beta * (own - reference)).chunk(2)
    lengths = torch.tensor([int(pair.targets[1:].sum()) for pair in pairs])
    theirs = -F.logsigmoid(chosen - rejected).mean() - rpo_alpha * (own.chunk(2)[0] / lengths).mean()
    theirs.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert abs(ours.item() - 0.693) > 0.01  # the adapters matter
    assert len(gradients) == 2 * 14
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-5, rtol=1e-4)
    expected = {
        "rewards/chosen": chosen.mean(), "rewards/rejected": rejected.mean(),
        "rewards/accuracies": (chosen > rejected).float().mean(), "rewards/margins": (chosen - rejected).mean(),
        "logps/chosen": own.chunk(2)[0].mean(), "logps/rejected": own.chunk(2)[1].mean(),
    }  # fmt: skip
    assert figures == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-4)


def test_no_part_of_a_step_splits_a_pair(dpo: Recipe) -> None:
    assert dpo.model
    _, processor = assemble(dpo.model.vision_tower, dpo.model.language_model, projector="linear")
    dataset = _dataset(dpo, processor)
    pairs = [sample for index in range(len(dataset)) if (sample := dataset.get(index))]
    for part in share_out(make_groups(pairs), 12):
        assert [len(group.samples) for group in part] == [2]


def test_a_stage_prefers_the_chosen_answers_and_resumes_to_the_same_weights(
    dpo: Recipe, kill: Any, tmp_path: Path
) -> None:
    stage = dpo.stages[0].model_copy(update={"validation_data": dpo.stages[0].data, "validate_every": 9})
    dpo = dpo.model_copy(update={"stages": [stage]})
    checkpoint = train(dpo, tmp_path / "run")
    lines = [json.loads(line) for line in (checkpoint / "log.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-2]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)  # adapters begin as nothing
    assert first["rewards/margins"] == first["rewards/accuracies"] == 0
    assert last["loss"] < 0.3
    assert last["rewards/accuracies"] == 1
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
    assert lines[-1].keys() >= {"val_loss", "val_rewards_accuracies"}
    process = kill(dpo, tmp_path / "killed", "state/step-00000004")
    process.join()
    assert train(dpo, tmp_path / "killed") == tmp_path / "killed/prefer"
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (checkpoint / name).read_bytes() == (tmp_path / "killed/prefer" / name).read_bytes()
    again = [json.loads(line) for line in (tmp_path / "killed/prefer/log.jsonl").read_text().splitlines()]
    for key in ("loss", "rewards/margins", "val_rewards_margins"):
        assert [line.get(key) for line in again] == [line.get(key) for line in lines]


def test_micro_batches_and_checkpointed_activations_change_nothing(dpo: Recipe, tmp_path: Path) -> None:
    small = dpo.model_copy(
        update={"stages": [dpo.stages[0].model_copy(update={"micro_batch_size": 1, "activation_checkpointing": 1})]}
    )
    logs = []
    for name, one in (("whole", dpo), ("small", small)):
        text = (train(one, tmp_path / name) / "log.jsonl").read_text()
        logs.append([json.loads(line) for line in text.splitlines()])
    for whole, part in zip(*logs, strict=True):
        for key in ("loss", "rewards/chosen", "rewards/rejected", "grad_norm"):
            assert whole[key] == pytest.approx(part[key], rel=1e-3, abs=1e-4)


def test_data_that_does_not_fit_the_loss_is_an_error(dpo: Recipe, make_recipe: Any, tmp_path: Path) -> None:
    whole = make_recipe().stages[1]
    stage = dpo.stages[0]
    for changed, message in (
        (stage.model_copy(update={"data": whole.data}), "13 of 13 records have no 'chosen' and 'rejected'"),
        (whole.model_copy(update={"data": stage.data}), "12 of 12 records are preferences"),
        (stage.model_copy(update={"validation_data": [DataRecipe(path=str(whole.data))]}), "13 of 13"),
    ):
        with pytest.raises(DataError, match=message):
            train(dpo.model_copy(update={"stages": [changed]}), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"`loss: dpo` needs `trains: \[lora\]`"):
        schema.load(Recipe, None, options=dpo.model_dump() | {
            "stages": [stage.model_dump() | {"trains": ["projector", "lora"]}]})  # fmt: skip
    short = dpo.model_copy(update={"stages": [stage.model_copy(update={"max_length": 12})]})
    with pytest.raises(DataError, match="does not fit in 12 tokens"):
        train(short, tmp_path / "run")


def test_the_plan_counts_both_answers_and_the_reference(dpo: Recipe) -> None:
    (one,) = plan(dpo)
    plain = dpo.model_copy(update={"stages": [dpo.stages[0].model_copy(update={"epochs": 1})]})
    assert (one.conversations, one.steps, plan(plain)[0].steps) == (12, 9, 3)
    assert one.savings[-1][1] < 0.8 * one.savings[0][1]
