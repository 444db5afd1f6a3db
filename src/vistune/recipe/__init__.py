"""Recipes: what a run does, as a schema that is checked, a YAML file and changes from the command line."""

from __future__ import annotations
