"""What training changes in a model and gives back; compiled layers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from assembling import assemble
from vistune.errors import RecipeError
from vistune.recipe.training import Recipe
from vistune.train.run import train
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

has_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")


def _recipe(make_recipe: Any, **changes: Any) -> Recipe:
    """The second stage alone; AdamW enlarges rounding errors to a share of the learning rate."""
    recipe: Recipe = make_recipe(epochs=1, log_every=1, learning_rate=1e-3, micro_batch_size=2)
    return recipe.model_copy(update={"stages": recipe.stages[1:], **changes})


def test_a_model_is_given_back_as_it_was(backbones: Path) -> None:
    model, processor = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    freeze(model, ["projector", "language"])

    def state() -> list[Any]:
        modules = [
            (name, dict(part._forward_hooks), dict(part._forward_pre_hooks), getattr(part, "sparse", None),
             getattr(part, "gradient_checkpointing", None), getattr(part, "_compiled_call_impl", None))
            for name, part in model.named_modules()
        ]  # fmt: skip
        return [*modules, model.model.language_model.config._attn_implementation]

    ids = torch.tensor([processor.tokenizer("how many dogs are there")["input_ids"]])
    with torch.no_grad():
        before, logits = state(), model(input_ids=ids).logits
    loss = TargetLoss(model, in_place=True, recompute=1.0, compiled=True)
    loss._allocate_gradients()
    assert state() != before
    loss.close()
    assert state() == before
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, logits)


@has_compiler
def test_losses_and_weights_are_the_same_up_to_rounding(make_recipe: Any, tmp_path: Path) -> None:
    found = []
    for compile_ in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        out = train(_recipe(make_recipe, compile=compile_), tmp_path / str(compile_))
        compiled = dict(torch._dynamo.utils.counters["stats"]).get("unique_graphs", 0)
        assert bool(compiled) == compile_
        losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        found.append((losses, load_file(out / "model.safetensors")))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    assert found[1][1].keys() == found[0][1].keys()
    for name, weight in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], weight, atol=1e-5, rtol=1e-5)


def test_a_missing_compiler_is_reported_before_anything_is_read(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"compile: compiling needs the C\+\+ compiler no-such-compiler\n  fix: "):
        train(_recipe(make_recipe, compile=True), tmp_path / "run")
