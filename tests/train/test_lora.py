"""Stages that train adapters, and checkpoints that hold what was trained only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from vistune.errors import CheckpointError
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import published_weights
from vistune.recipe.training import Recipe
from vistune.train.run import train

LORA = {"rank": 4, "alpha": 16}


def _recipe(make_recipe: Any, save: str = "full") -> Recipe:
    """Stage 1 as it is, its checkpoint kept as `save` says; stage 2 with adapters and dropout."""
    content = make_recipe().model_dump()
    content["stages"][0]["save"] = save
    content["stages"][1] |= {"trains": ["projector", "lora"], "lora": LORA, "learning_rates": {"projector": 2e-3}}
    return Recipe.model_validate(content)


@pytest.fixture(scope="session")
def finished(make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lora") / "run"
    train(_recipe(make_recipe), out)
    return out


def test_adapters_learn_and_the_checkpoint_holds_them_merged(finished: Path) -> None:
    before, after = (load_file(finished / stage / "model.safetensors") for stage in ("align", "tune"))
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert changed == linear | {"linear_2"}  # where a linear projector is kept
    rank = torch.linalg.matrix_rank(*[(after[n] - before[n]) for n in before if n.endswith("1.mlp.up_proj.weight")])
    assert rank == LORA["rank"]
    separate, _ = open_checkpoint(finished / "tune" / "adapter")
    for name, weight in published_weights(separate).items():
        torch.testing.assert_close(weight, after[name], atol=1e-6, rtol=1e-6)
    assert Assistant.load(finished / "tune", "cpu").answer([], max_new_tokens=1) == []


def test_a_run_of_light_checkpoints_ends_with_the_same_weights(
    finished: Path, make_recipe: Any, tmp_path: Path
) -> None:
    tune = train(_recipe(make_recipe, save="trained"), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run" / "align").glob("*s*")} >= {"projector.safetensors", "base.json"}
    assert not (tmp_path / "run" / "align" / "model.safetensors").exists()
    assert (tune / "model.safetensors").read_bytes() == (finished / "tune" / "model.safetensors").read_bytes()
    assert Assistant.load(tmp_path / "run" / "align", "cpu").answer([], max_new_tokens=1) == []
    assert Assistant.load(tune / "adapter", "cpu").answer([], max_new_tokens=1) == []


def test_adapters_of_quantised_layers_learn(finished: Path, make_recipe: Any, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="an extra")
    content = _recipe(make_recipe, save="trained").model_dump()
    content["stages"][1]["lora"]["quantize"] = "nf4"
    tune = train(Recipe.model_validate(content), tmp_path / "run")
    before, after = load_file(finished / "align" / "model.safetensors"), load_file(tune / "model.safetensors")
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    assert 0 < (after[name] - before[name]).norm() / before[name].norm() < 0.5
    assert after.keys() == before.keys()
    assert Assistant.load(tune, "cpu").answer([], max_new_tokens=1) == []


def test_a_run_starts_from_a_checkpoint_and_saves_rounded_numbers(
    finished: Path, make_recipe: Any, tmp_path: Path
) -> None:
    content = _recipe(make_recipe).model_dump() | {"model": None, "save_dtype": "bfloat16"}
    content["stages"] = content["stages"][1:]
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such checkpoint folder"):
        train(Recipe.model_validate(content | {"start": str(tmp_path / "nowhere")}), tmp_path / "run")
    tune = train(Recipe.model_validate(content | {"start": str(finished / "align")}), tmp_path / "again")
    rounded, exact = (load_file(folder / "model.safetensors") for folder in (tune, finished / "tune"))
    for name, weight in exact.items():
        assert torch.equal(rounded[name], weight.bfloat16()), name
    assert LlavaForConditionalGeneration.from_pretrained(tune, dtype="auto").dtype == torch.bfloat16
