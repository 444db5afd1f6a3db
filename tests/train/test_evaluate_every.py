"""Benchmarks that run during a stage, and the best weights by their score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vistune.errors import RecipeError
from vistune.recipe.training import Recipe
from vistune.train.run import train


def _with(recipe: Recipe, **changes: Any) -> Recipe:
    content = recipe.model_dump() | {"evaluation": {"data": "unused"}}
    content["stages"][1] |= {"evaluate_every": 4, **changes}
    return Recipe.model_validate(content)


def _logged(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "tune" / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["eval_count"] for line in lines if "eval_count" in line}


def test_evaluation_changes_nothing_but_the_log(finished: Any, make_recipe: Any, tmp_path: Path) -> None:
    """The model answers by its own attention, and training goes on as if it had not."""
    from vistune.model.assistant import Assistant

    answers = []

    def evaluate(model: Any, processor: Any, folder: Path, step: int) -> dict[str, float]:
        assert folder == tmp_path / "run" / "tune"
        answers.append(Assistant(model, processor).chat(None, "What is it?", max_new_tokens=4))
        return {"count": float(step)}

    _, out = finished
    train(_with(make_recipe()), tmp_path / "run", evaluate)
    name = "tune/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (out / name).read_bytes()
    assert _logged(tmp_path / "run") == {step: float(step) for step in (4, 8, 12, 13)}
    assert answers[-1] == Assistant.load(out / "tune").chat(None, "What is it?", max_new_tokens=4)


def test_the_best_weights_stay(make_recipe: Any, tmp_path: Path) -> None:
    kept = {}

    def evaluate(model: Any, _processor: Any, _folder: Path, step: int) -> dict[str, float]:
        kept[step] = model.lm_head.weight.detach().clone()
        return {"a/score": {4: 0.2, 8: 0.5, 12: 0.4, 13: 0.5}[step]}

    from vistune.model.adapter_checkpoint import open_checkpoint

    train(_with(make_recipe(), keep_best="a/score"), tmp_path / "high", evaluate)
    model, _ = open_checkpoint(tmp_path / "high" / "tune")
    assert model.lm_head.weight.equal(kept[8])
    train(_with(make_recipe(), keep_best="-a/score", early_stopping=2), tmp_path / "low", evaluate)
    model, _ = open_checkpoint(tmp_path / "low" / "tune")
    assert model.lm_head.weight.equal(kept[4])
    with pytest.raises(RecipeError, match="did you mean 'a/score'"):
        train(_with(make_recipe(), keep_best="a/scores"), tmp_path / "typo", evaluate)


def test_keys_that_need_others(make_recipe: Any) -> None:
    with pytest.raises(ValidationError, match="keep_best needs evaluate_every"):
        _with(make_recipe(), evaluate_every=None, keep_best="x")
    content = make_recipe().model_dump()
    content["stages"][1]["evaluate_every"] = 4
    with pytest.raises(ValidationError, match="evaluate_every needs `evaluation`"):
        Recipe.model_validate(content)
