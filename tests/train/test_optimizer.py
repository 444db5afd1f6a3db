"""The scale of fp16's loss, and the optimizer's choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vistune.errors import MissingPackageError, RecipeError
from vistune.recipe.training import Recipe
from vistune.train import loop
from vistune.train.optimizer import LossScale, clip
from vistune.train.run import train


def _recipe(make_recipe: Any, precision: str, **changes: Any) -> Recipe:
    recipe = make_recipe(log_every=1, epochs=2, **changes)
    return Recipe.model_validate({**recipe.model_dump(), "precision": precision})


def _log(out: Path, key: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "tune/log.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def _scaled_gradient(*values: float) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = torch.tensor(values)
    return weight


def test_the_scale_halves_at_an_overflow_and_doubles_after_many_good_steps() -> None:
    scale = LossScale(64.0)
    scale.update(finite=False)
    for _ in range(1999):
        scale.update(finite=True)
    assert scale == LossScale(32.0, 1999)
    scale.update(finite=True)
    assert scale == LossScale(64.0, 0)


def test_gradients_are_clipped_by_their_norm_without_the_scale() -> None:
    weight = _scaled_gradient(300.0, 400.0)
    assert clip([weight], 1.0, 100.0) == pytest.approx(5.0)
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))
    assert clip([_scaled_gradient(float("inf"), 0.0)], 1.0, 2.0) == float("inf")


def test_fp16_learns_what_fp32_learns(make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LossScale", lambda: LossScale(2.0**8))  # at which nothing overflows here
    for precision in ("fp16", "fp32"):
        train(_recipe(make_recipe, precision, learning_rate=1e-3), tmp_path / precision)
    for key in ("loss", "grad_norm"):
        assert _log(tmp_path / "fp16", key) == pytest.approx(_log(tmp_path / "fp32", key), rel=1e-2), key
    assert set(_log(tmp_path / "fp16", "loss_scale")) == {2.0**8}


def test_steps_that_overflow_are_left_out_in_a_run_that_is_interrupted_too(
    make_recipe: Any, kill: Any, tmp_path: Path
) -> None:
    half = _recipe(make_recipe, "fp16", learning_rate=1e-3)
    train(half, tmp_path / "whole")
    scales, losses = _log(tmp_path / "whole", "loss_scale"), _log(tmp_path / "whole", "loss")
    assert scales[-1] < scales[0] == 2.0**16  # the random weights' gradients are larger than a trained model's
    assert len(_log(tmp_path / "whole", "grad_norm")) < len(losses)  # a step that was left out has none
    kill(half, tmp_path / "killed", "tune/state/step-00000004").join()
    train(half, tmp_path / "killed")
    files = [tmp_path / name / "tune/model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"attn_implementation": "flex_attention"}, "flex_attention is for GPUs"),
        ({"attn_implementation": "flash_attention_2", "precision": "bf16"}, "flash_attention_2 is for GPUs"),
    ],
)
@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_what_needs_a_gpu_is_an_error_before_any_training(
    make_recipe: Any, tmp_path: Path, keys: dict[str, str], error: str
) -> None:
    with pytest.raises(RecipeError, match=error):
        train(make_recipe().model_copy(update=keys), tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_package_of_the_8_bit_optimizer_is_named(make_recipe: Any, tmp_path: Path) -> None:
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match="optim: adamw_8bit needs the package bitsandbytes"):
            train(make_recipe(optim="adamw_8bit"), tmp_path)
    else:
        pytest.skip("it is installed")
