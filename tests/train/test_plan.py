from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vistune.errors import DataError
from vistune.recipe.training import Recipe
from vistune.train.plan import plan, table
from vistune.train.run import train


def test_the_plan_is_what_the_training_does(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe(log_every=1)
    plans = plan(recipe)
    out = train(recipe, tmp_path / "run").parent
    for stage, one in zip(recipe.stages, plans, strict=True):
        log = [json.loads(line) for line in (out / stage.name / "log.jsonl").read_text().splitlines()]
        assert one.steps == log[-1]["step"]
        data = json.loads(Path(stage.data).read_text())
        assert one.conversations == len(data)
    assert plans[0].trained < plans[1].trained < plans[1].weights == plans[0].weights
    for one in plans:
        costs = [cost for _, cost in one.savings]
        assert costs == sorted(costs, reverse=True)
        assert costs[-1] < costs[0]
        assert one.targets < one.tokens
        assert min(one.memory, one.seconds) > 0
    console = Console(width=200, record=True, file=(tmp_path / "output").open("w"))
    console.print(table(plans))
    text = console.export_text()
    assert f"{plans[0].trained:,} of {plans[0].weights:,}" in text
    assert "cached features" in text


def test_the_plan_needs_no_weights(make_recipe: Any, backbones: Path, tmp_path: Path) -> None:
    for name in ("vision", "language"):
        shutil.copytree(backbones / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    recipe = make_recipe()
    model = recipe.model.model_copy(
        update={"vision_tower": str(tmp_path / "vision"), "language_model": str(tmp_path / "language")}
    )
    assert [one.trained for one in plan(recipe.model_copy(update={"model": model}))] == [
        one.trained for one in plan(recipe)
    ]


def test_each_stage_is_planned_as_it_is_trained(make_recipe: Any, tmp_path: Path) -> None:
    content = make_recipe().model_dump()
    lora = {"trains": ["lora"], "lora": {"rank": 4, "alpha": 8}}
    content["stages"] = [{**content["stages"][1], "name": name, **lora} for name in ("first", "second")]
    first, second = plan(Recipe.model_validate(content))
    assert first.trained == second.trained > 0  # the adapters of the first are merged before the second
    content["stages"][1]["validation_data"] = str(tmp_path / "none.json")
    with pytest.raises(DataError, match="there is no such file"):
        plan(Recipe.model_validate(content))


@pytest.mark.parametrize(("epochs", "cached"), [(1, False), (4, True)])
def test_features_are_cached_where_images_come_again(make_recipe: Any, epochs: int, cached: bool) -> None:
    recipe = make_recipe(epochs=epochs)
    single = recipe.model_copy(update={"stages": recipe.stages[1:]})
    assert ("cached features of a frozen tower" in dict(plan(single)[0].savings)) == cached
