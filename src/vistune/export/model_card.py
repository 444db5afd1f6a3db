"""The model card: README.md of a checkpoint, with what is known of its making."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, try_to_load_from_cache

from vistune.errors import CheckpointError
from vistune.reading import read_json
from vistune.recipe import schema
from vistune.recipe.training import Recipe

_RECIPE = "recipe.yaml"
_SCORES = "scores.json"


def model_card(checkpoint: str, evaluation: Path | None = None) -> str:
    """The model card of a folder or hub id in Markdown, with the hub's metadata at its head.

    The recipe and the hashes of the data are those of the run that the checkpoint lies in; `evaluation` is the
    folder of scores by `vistune eval`. Raises CheckpointError if there are no scores.
    """
    run = Path(checkpoint).resolve().parent
    recipe = schema.load(Recipe, run / _RECIPE) if (run / _RECIPE).is_file() else None
    licences = {part: _licence(part) for part in _parts(recipe, checkpoint)}
    name = recipe.name if recipe else Path(checkpoint).resolve().name
    head = {
        "library_name": "transformers", "pipeline_tag": "image-text-to-text", "tags": ["vistune", "llava"],
        "base_model": [part for part in licences if not Path(part).exists() and part != "mini"],
    }  # fmt: skip
    front = yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False)
    parts = [f"---\n{front}---\n", f"# {name}\n"]
    parts.append("A visual assistant for transformers' `AutoModelForImageTextToText`, trained with vistune.\n")
    parts += _part_section(licences)
    parts += _scores_section(evaluation)
    parts += _recipe_section(recipe, run)
    return "\n".join(parts)


def _part_section(licences: dict[str, str]) -> Iterator[str]:
    if licences:
        yield "## Parts\n\n| part | licence |\n|---|---|"
        yield from (f"| {part} | {licence} |" for part, licence in licences.items())
        yield "\nThe licences of the parts and of the training data apply to this model.\n"


def _scores_section(evaluation: Path | None) -> Iterator[str]:
    if evaluation is None:
        return
    path = evaluation / _SCORES
    if not path.is_file():
        raise CheckpointError("there are no scores here", where=str(path), fix="run `vistune eval` first")
    content = read_json(path, CheckpointError)
    try:
        rows = [
            f"| {name} | {measure} | {_number(values['value'])} | {_interval(values)} | {scores['n']} |"
            for name, scores in content["benchmarks"].items()
            for measure, values in scores["measures"].items()
        ]
    except (LookupError, TypeError, AttributeError, ValueError):
        fix = "name the folder that `vistune eval` wrote"
        raise CheckpointError("these are no scores of an evaluation", where=str(path), fix=fix) from None
    yield "## Scores\n\n| benchmark | measure | value | 95 % interval | questions |\n|---|---|---|---|---|"
    yield from [*rows, ""]


def _recipe_section(recipe: Recipe | None, run: Path) -> Iterator[str]:
    if recipe is None:
        return
    hashes = {stage.name: _data_hash(run / stage.name) for stage in recipe.stages}
    if any(hashes.values()):
        yield "## Training data\n\n| stage | SHA-256 of its conversations |\n|---|---|"
        yield from (f"| {stage} | `{digest}` |" for stage, digest in hashes.items() if digest)
        yield ""
    yield f"## Recipe\n\n```yaml\n{(run / _RECIPE).read_text('utf-8').strip()}\n```\n"


def _data_hash(stage: Path) -> str | None:
    """The fingerprint of a stage's data, from its newest training state."""
    for file in sorted(stage.glob("state/step-*/progress.json"), reverse=True):
        progress = read_json(file, CheckpointError)
        return str(progress.get("data")) if isinstance(progress, dict) else None
    return None


def _parts(recipe: Recipe | None, checkpoint: str) -> list[str]:
    """The models that a checkpoint was made from, as far as they are known."""
    if recipe is None:
        return [] if Path(checkpoint).exists() else [checkpoint]
    return [recipe.model.vision_tower, recipe.model.language_model] if recipe.model else [str(recipe.start)]


def _licence(part: str) -> str:
    """The licence in a part's own model card, if that is on this machine."""
    card: Any = Path(part) / "README.md"
    if not card.is_file() and not Path(part).exists() and part.count("/") == 1:
        card = try_to_load_from_cache(part, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return "unknown"
    try:
        return str(ModelCard.load(card, ignore_metadata_errors=True).data.license or "unknown")
    except (ValueError, yaml.YAMLError):
        return "unknown"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _interval(values: dict[str, Any]) -> str:
    low, high = values.get("low"), values.get("high")
    return "–" if low is None or high is None else f"{_number(low)} to {_number(high)}"
