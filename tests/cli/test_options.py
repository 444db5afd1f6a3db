from __future__ import annotations

import argparse
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from vistune.cli.options import add_options, given_options
from vistune.cli.parsing import Parser
from vistune.errors import RecipeError
from vistune.recipe.generation import GenerateRecipe
from vistune.recipe.schema import Section, load


class Painting(Section):
    """painting"""

    max_colors: Annotated[int, Field(ge=1)] = 3
    """Maximum number of
    colors, 100 % of them."""
    style: Literal["oil", "ink"] | None = None
    """Style (default: that of the picture)."""
    varnish: bool = False
    """Varnish it."""
    brush: list[str] = []
    """Brush; may be repeated."""
    frame: Annotated[str | None, Field(json_schema_extra={"metavar": "WOOD", "bare": "oak"})] = None
    """Frame."""
    mixture: Annotated[dict[str, str], Field(exclude=True)] = {}
    """Mixture COLOR=AMOUNT."""

    @field_validator("mixture", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return dict(str(item).split("=") for item in value) if isinstance(value, list) else value


class Selling(Painting):
    """selling"""

    price: Annotated[float, Field(gt=0)] | None = None
    """Price."""


def parser(**options: object) -> Parser:
    made = Parser(prog="paint")
    add_options(made, Selling, **options)  # type: ignore[arg-type]
    return made


def recipe(*arguments: str) -> Selling:
    return load(Selling, None, options=given_options(parser().parse_args(arguments), Selling))


def test_every_kind_of_field_has_its_form() -> None:
    assert recipe() == Selling()
    assert recipe(
        "--max-colors", "5", "--style=ink", "--varnish", "--brush", "a", "--brush", "b", "--frame", "--mixture", "x=1",
        "--mixture", "y=2", "--price", "2.5"
    ) == Selling(
        max_colors=5, style="ink", varnish=True, brush=["a", "b"], frame="oak", mixture={"x": "1", "y": "2"}, price=2.5
    )  # fmt: skip
    assert recipe("--frame", "pine").frame == "pine"


def test_only_options_that_were_given_are_set() -> None:
    assert given_options(parser().parse_args(["--price", "3"]), Selling) == {"price": "3"}
    assert given_options(argparse.Namespace(), Selling) == {}


def test_help_is_the_docstring_with_the_default_in_groups_by_class() -> None:
    text = " ".join(parser(skip=["brush"]).format_help().split())
    assert "painting: --max-colors N Maximum number of colors, 100 % of them (default: 3) --style {oil,ink} " in text
    assert "Style (default: that of the picture) --varnish Varnish it --frame [WOOD]" in text
    assert text.endswith("selling: --price PRICE Price")
    assert "--brush" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-colors", "0"], "--max-colors: should be greater than or equal to 1 (it is '0')"),
        (["--max-colors", "x"], "--max-colors: should be a valid integer"),
        (["--price", "inf"], "--price: should be a finite number"),
    ],
)
def test_a_wrong_value_names_the_option(arguments: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*arguments)
    assert str(caught.value).startswith(message)


def test_kinds_of_the_command_line_are_those_of_a_file() -> None:
    made = Parser(prog="generate")
    add_options(made, GenerateRecipe)
    args = made.parse_args(["--kinds", "conversation=58k, detail=0.3,reasoning", "--headers", "a=b=c"])
    options = load(GenerateRecipe, None, options=given_options(args, GenerateRecipe))
    assert options.kinds == {"conversation": "58k", "detail": "0.3", "reasoning": "all"}
    assert options.headers == {"a": "b=c"}
    assert "headers" not in options.model_dump(mode="json")
