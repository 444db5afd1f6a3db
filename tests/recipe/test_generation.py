from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vistune.errors import RecipeError
from vistune.recipe.generation import GenerateRecipe
from vistune.recipe.schema import load, save


def recipe(tmp_path: Path, text: str, **options: Any) -> GenerateRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load(GenerateRecipe, path, options=options)


def test_kinds_are_text_on_the_command_line_and_a_mapping_in_a_file(tmp_path: Path) -> None:
    text = "kinds: {conversation: 58k, detail: 0.3, reasoning: all, own: 500}"
    expected = {"conversation": "58k", "detail": "0.3", "reasoning": "all", "own": "500"}
    assert recipe(tmp_path, text).kinds == expected
    assert recipe(tmp_path, "kinds: 'conversation=58k, detail=0.3,reasoning,own=500'").kinds == expected
    several = ["conversation=58k,detail=0.3", "reasoning", "own=500"]
    assert recipe(tmp_path, "kinds: {other: all}", kinds=several).kinds == expected


def test_a_saved_recipe_repeats_the_run_but_never_holds_a_header(tmp_path: Path) -> None:
    options = {"data": "images", "limit": "5", "headers": ["Authorization=Bearer secret"], "caption_column": ["a", "b"]}
    first = load(GenerateRecipe, None, options=options)
    save(first, tmp_path / "again.yaml")
    assert "secret" not in (tmp_path / "again.yaml").read_text()
    again = load(GenerateRecipe, tmp_path / "again.yaml")
    assert again == first.model_copy(update={"headers": {}})
    assert load(GenerateRecipe, tmp_path / "again.yaml", options={"limit": "7"}).limit == 7


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("kinds: {detail: all}", {"kinds": ["detail=all,detail=3"]}, "--kinds: the kind 'detail' is given twice"),
        ("kinds: 'detail,,'", {}, "{path}: kinds: a kind has no name in 'detail,,'"),
        ("kinds: {detail: [1]}", {}, "{path}: kinds.detail: should be a valid string"),
        ("limit: 3", {"limit": "0"}, "--limit: should be greater than or equal to 1 (it is '0')"),
        ("limit: many", {}, "{path}: limit: should be a valid integer"),
        ("limt: 3", {}, "{path}: limt: unknown key\n  fix: did you mean 'limit'?"),
        ("seed: 9223372036854775808", {}, "{path}: seed: should be less than 9223372036854775808"),
        ("max_usd: .inf", {}, "{path}: max_usd: should be a finite number"),
        ("headers: {a: [secret]}", {}, "{path}: headers.a: should be a valid string"),
    ],
)
def test_a_mistake_names_the_option_or_the_file_and_key(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, text, **options)
    assert str(caught.value).startswith(message.replace("{path}", str(tmp_path / "recipe.yaml")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["limit: 2024-13-45", f"limit: {'9' * 5000}", "[" * 3000, "limit: '\ud800'"])
def test_what_yaml_cannot_hold_is_an_error_with_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not valid YAML"):
        load(GenerateRecipe, path)
