"""Instruction data from annotated images, written by a teacher that sees captions and boxes only."""

from __future__ import annotations

from vistune.generate.report import Report
from vistune.generate.run import Generation, generate
from vistune.recipe.generation import GenerateRecipe

__all__ = ["GenerateRecipe", "Generation", "Report", "generate"]
