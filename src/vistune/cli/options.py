"""Options of the command line from the fields of a recipe: a field's docstring is the help, its type the form."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from inspect import get_annotations
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vistune.printable import print_line
from vistune.recipe.generation import AnnotationOptions
from vistune.recipe.schema import Section, default_text, load, option_name

if TYPE_CHECKING:
    from vistune.sources import AnnotatedImages


def add_options(command: Any, section: type[Section], skip: Collection[str] = ()) -> None:
    """Add an option for each field of `section`, in groups by the base class that declares it.

    `max_tokens` becomes --max-tokens. bool: a switch. Literal: one of its values. list and dict: may be repeated.
    What is not given is not set, so that a recipe's file, or the default, holds.
    """
    for base, names in _groups(section):
        group = command.add_argument_group((base.__doc__ or "").strip())
        for name in names:
            if name not in skip:
                group.add_argument(option_name(name), **_describe(name, section.model_fields[name]))


def given_options(args: argparse.Namespace, section: type[Section]) -> dict[str, Any]:
    """The values of the options that were given, by the names of the fields."""
    return {name: getattr(args, name) for name in section.model_fields if hasattr(args, name)}


def _groups(section: type[Section]) -> Iterator[tuple[type[Section], list[str]]]:
    for base in reversed(section.__mro__):
        if issubclass(base, Section) and (
            names := [name for name in get_annotations(base) if name in base.model_fields]
        ):
            yield base, names


def _describe(name: str, field: FieldInfo) -> dict[str, Any]:
    """The arguments of `add_argument` for a field."""
    types = list(_types(field.annotation))
    argument: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": _help(field)}
    if bool in types:
        return argument | {"action": "store_true"}
    if literal := next((kind for kind in types if get_origin(kind) is Literal), None):
        return argument | {"choices": get_args(literal)}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    argument["metavar"] = extra.get("metavar", "N" if int in types else name.rpartition("_")[2].upper())
    if any(get_origin(kind) in (list, dict) for kind in types):
        return argument | {"action": "append"}
    if "bare" in extra:  # the value of an option that stands alone
        return argument | {"nargs": "?", "const": extra["bare"]}
    return argument


def _types(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, without None and without pydantic's constraints."""
    if get_origin(annotation) is Annotated:
        yield from _types(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _types(part)
    elif annotation is not NoneType:
        yield annotation


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).removesuffix(".")
    default = default_text(field)
    if default and "(default" not in text:
        text += f" (default: {default})"
    return text.replace("%", "%%")


def read_records(args: argparse.Namespace, default_split: str, **fixed: Any) -> AnnotatedImages:
    """The annotated images of the command's options; `fixed` are fields that have no option of their own.

    `default_split` is the split if the format always has some.
    """
    from vistune.sources import open_annotations

    options = load(AnnotationOptions, None, options=given_options(args, AnnotationOptions) | fixed)
    return open_annotations(options, default_split=default_split, warn=lambda text: print_line(text, error=True))
