"""Writes docs/reference/{commands,training-recipe,generation-recipe}.md from the parser and the schemas of the recipes.

python tools/reference.py
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vistune.cli import build_parser
from vistune.recipe.generation import GenerateRecipe
from vistune.recipe.schema import Section, default_text, keys
from vistune.recipe.training import Recipe

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_NOTE = "<!-- Written by tools/reference.py; edit the docstrings that it reads. -->"


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {
        "commands.md": "\n".join(_commands()),
        "training-recipe.md": "\n".join(_training()),
        "generation-recipe.md": "\n".join(_generation()),
    }


def _training() -> Iterator[str]:
    yield f"# Keys of a training recipe\n\n{_NOTE}\n"
    yield "A recipe is a YAML file for `vistune train`. Each stage is an entry of the list `stages`."
    yield "On the command line, `--set stages.NAME.KEY=VALUE` changes a key of stage NAME."
    yield "Keys without a default are required.\n"
    yield from _table(keys(Recipe))


def _generation() -> Iterator[str]:
    yield f"# Keys of a generation recipe\n\n{_NOTE}\n"
    yield "`vistune generate` writes its recipe as `recipe.yaml` beside its output; `--recipe FILE` repeats a run."
    yield "Each key is also an option of the command: `max_usd` is `--max-usd`. Options override the recipe.\n"
    for group in reversed(GenerateRecipe.__mro__):
        names = [name for name in GenerateRecipe.model_fields if name in get_annotations(group)]
        if not names:
            continue
        yield f"## {(group.__doc__ or group.__name__).strip().capitalize()}\n"
        yield from _table((name, GenerateRecipe.model_fields[name]) for name in names)


def _table(fields: Iterator[tuple[str, FieldInfo]] | Any) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for key, field in fields:
        default = (
            "" if field.is_required() else f"`{default_text(field) or ('false' if field.default is False else 'none')}`"
        )
        yield f"| `{key}` | {_values(field.annotation)} | {default} | {_cell(field.description or '')} |"
    yield ""


def _values(annotation: Any) -> str:
    """The type of a field in words, or the values that it may have."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    names = {str: "text", int: "integer", float: "number", bool: "`true` or `false`", Path: "path"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) in (list, tuple):
        return "list"
    if get_origin(annotation) is dict:
        return "mapping"
    inner = [_values(part) for part in get_args(annotation) if part is not type(None) and not _is_metadata(part)]
    return " or ".join(dict.fromkeys(inner))


def _is_metadata(part: Any) -> bool:
    """Whether a part of an annotation is pydantic's, such as `Field(ge=1)`."""
    return not isinstance(part, type) and get_origin(part) is None


def _commands() -> Iterator[str]:
    yield f"# Commands\n\n{_NOTE}\n"
    yield "`vistune COMMAND --help` prints the same.\n"
    for command in build_parser()[1].values():
        yield f"## {command.prog}\n\n{(command.description or '').strip()}\n"
        yield from _options(command)


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    for group in command._action_groups:
        actions = [action for action in group._group_actions if "-h" not in action.option_strings]
        if not actions:
            continue
        yield f"**{group.title}**\n"
        for action in actions:
            text = (action.help or "") % {**vars(action), "prog": command.prog}
            yield f"- `{_invocation(action)}`: {_cell(text)}"
        yield ""


def _invocation(action: argparse.Action) -> str:
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    metavar = str(action.metavar or choices or action.dest.upper())
    if not action.option_strings:
        return metavar
    return action.option_strings[-1] + (f" {metavar}" if action.nargs != 0 else "")


def _cell(text: str) -> str:
    """Text on one line, with `<image>` and the like as code: Markdown takes them for HTML."""
    return re.sub(r"(?<!`)<\w+>", r"`\g<0>`", " ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content.rstrip() + "\n", "utf-8")
