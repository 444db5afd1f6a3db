"""What all recipes share: a schema that is checked, read from YAML with changes, and written whole.

A field's docstring is its help on the command line and in the reference.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vistune.errors import RecipeError, did_you_mean
from vistune.recipe.yaml_file import override, read_yaml
from vistune.storage import atomic_text


class Section(BaseModel):
    """A part of a recipe. An unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


T = TypeVar("T", bound=Section)


def load(
    schema: type[T], path: Path | None, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> T:
    """The recipe in a YAML file, with `overrides` such as `stages.align.data=FILE` (a stage by its name).

    `path` may be the name of a shipped recipe if there is no such file; without it, all values are `options`, the
    top-level keys that the command line sets by options of their own. Raises RecipeError (file or option, key,
    suggestion) for a file that cannot be read and for a key or value that is not allowed.
    """
    content = read_yaml(path) if path else {}
    for setting in overrides:
        override(content, setting)
    content |= options or {}
    origins = {item.partition("=")[0]: f"--set {item}" for item in overrides}
    origins |= {name: option_name(name) for name in options or {}}
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise _explain(schema, error.errors()[0], content, path, origins) from None


def option_name(field: str) -> str:
    """The command-line option of a field: `max_tokens` is --max-tokens."""
    return f"--{field.replace('_', '-')}"


def save(recipe: Section, path: Path) -> None:
    """Write the whole recipe as YAML, defaults included. Raises StorageError if the disk is full."""
    with atomic_text(path) as file:
        file.write(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def is_written(path: Path) -> bool:
    """Whether a YAML file looks as `save` writes it, so that replacing it loses no comment or layout of a person."""
    text = path.read_text("utf-8")
    return text == yaml.safe_dump(yaml.safe_load(text), sort_keys=False)


def describe(schema: type[Section], width: int = 80) -> str:
    """Every key of a recipe with its meaning and default, for help and the reference, wrapped at `width` columns."""
    lines: list[str] = []
    for key, field in keys(schema):
        default = default_text(field)
        lines.append(f"  {key} (default: {default})" if default else f"  {key}")
        text = " ".join((field.description or "").split())
        lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    return "\n".join(lines)


def default_text(field: FieldInfo) -> str:
    """The default of a field as a user writes it; "" where there is none, and for off, nothing and an empty list."""
    default = field.get_default(call_default_factory=True)
    if field.is_required() or default is None or default is False or default in ("", [], {}):
        return ""
    if isinstance(default, dict):
        return ",".join(f"{key}={value}" for key, value in default.items())
    return default if isinstance(default, str) else json.dumps(default).replace('"', "")


def keys(schema: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key by its dotted name: first those of the section itself, then those of the sections in it, each once."""
    inner: dict[type[Section], str] = {}
    for name, field in schema.model_fields.items():
        section = _section_in(field.annotation)
        if section is None:
            yield f"{prefix}{name}", field
            continue
        if field.description:
            yield f"{prefix}{name}", field
        item = ("<name>." if "name" in section.model_fields else "<number>.") if _is_list(field.annotation) else ""
        inner.setdefault(section, f"{prefix}{name}.{item}")
    for section, place in inner.items():
        yield from keys(section, place)


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a field's type holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list or any(map(_is_list, get_args(annotation)))


def _explain(
    schema: type[Section], error: ErrorDetails, content: Any, path: Path | None, origins: Mapping[str, str]
) -> RecipeError:
    """The error in the user's terms: a stage by its name, the option that set the key, a suggestion."""
    key, section, parent, secret = "", schema, schema, False
    for part in error["loc"]:
        if isinstance(part, str) and not isinstance(content, dict):
            continue  # which kind of value pydantic took it for
        content = content.get(part) if isinstance(content, dict) else content[int(part)]
        named = isinstance(part, int) and isinstance(content, dict)
        key += f".{content.get('name', part) if named else part}"
        field = section.model_fields.get(str(part))
        secret = secret or bool(field and field.exclude)  # what no file may hold is not printed either
        parent, section = section, (_section_in(field.annotation) if field else None) or section
    key = key[1:]
    origin = origins.get(key) or origins.get(key.partition(".")[0]) or (f"{path}: {key}" if path else option_name(key))
    if error["type"] == "extra_forbidden":
        return RecipeError("unknown key", where=origin, fix=did_you_mean(str(error["loc"][-1]), section.model_fields))
    if error["type"] == "missing":
        wanted = parent.model_fields.get(str(error["loc"][-1]))
        return RecipeError("this key is missing", where=origin, fix=(wanted.description or "") if wanted else "")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = "" if secret or isinstance(error["input"], dict | list) else f" (it is {error['input']!r})"
    return RecipeError(
        message + value,
        where=origin.removesuffix(": "),
        fix="the command's --help and docs/reference list the keys and their values",
    )
