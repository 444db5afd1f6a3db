"""Training on images of any size in tiles (anyres): both stages, with cached features, planned and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModel

from vistune.model.adapter_checkpoint import merge
from vistune.model.assistant import Assistant
from vistune.recipe.training import Recipe
from vistune.train.plan import plan
from vistune.train.run import train


def _with_tiles(recipe: Recipe) -> Recipe:
    model = recipe.model and recipe.model.model_copy(update={"image_aspect": "anyres", "projector": "mlp2x_gelu"})
    return recipe.model_copy(update={"model": model})


def test_cached_features_change_nothing(make_recipe: Any, tmp_path: Path, monkeypatch: Any) -> None:
    crops: list[int] = []
    see = CLIPVisionModel.forward

    def count(self: Any, pixel_values: Any, **options: Any) -> Any:
        crops.append(len(pixel_values))
        return see(self, pixel_values, **options)

    monkeypatch.setattr(CLIPVisionModel, "forward", count)
    recipe = _with_tiles(make_recipe())
    weights, seen = [], []
    for room in (0, 20):
        trained = train(recipe.model_copy(update={"feature_cache_gb": room}), tmp_path / str(room))
        weights.append((trained / "model.safetensors").read_bytes())
        seen.append(sum(crops))
        crops.clear()
    assert weights[0] == weights[1]
    assert seen[1] < seen[0] / 2
    first, last = (load_file(tmp_path / "0" / name / "model.safetensors") for name in ("align", "tune"))
    assert not first["image_newline"].equal(last["image_newline"])  # trained with the language model
    assert plan(recipe)[1].savings[0][1] > plan(make_recipe())[1].savings[0][1]


def test_adapters_are_merged(make_recipe: Any, tmp_path: Path) -> None:
    recipe = _with_tiles(make_recipe(epochs=1))
    tune = recipe.stages[1].model_copy(update={"trains": ["projector", "lora"], "save": "trained"})
    trained = train(recipe.model_copy(update={"stages": [recipe.stages[0], tune]}), tmp_path / "run")
    merge(trained, tmp_path / "merged", "float32")
    picture = Image.effect_noise((90, 30), 90).convert("RGB")
    said = [Assistant.load(one, "cpu").chat(picture, "how", max_new_tokens=9) for one in (trained, tmp_path / "merged")]
    assert said[0] == said[1]
