"""An assistant from backbones, with the keys of a recipe's `model` as keywords."""

from __future__ import annotations

from typing import Any

from vistune.model import assemble as assembling
from vistune.recipe.training import ModelRecipe


def assemble(vision_tower: str, language_model: str, *, weights: bool = True, **keys: Any) -> tuple[Any, Any]:
    recipe = ModelRecipe(vision_tower=vision_tower, language_model=language_model, **keys)
    return assembling.assemble(recipe, weights=weights)
