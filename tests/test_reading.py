from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vistune.errors import DataError, RecipeError
from vistune.reading import parse_json, parse_yaml, read_bytes, read_json, read_text, read_xml, read_yaml
from vistune.recipe.schema import load
from vistune.recipe.training import Recipe

READERS: tuple[Callable[..., Any], ...] = (read_bytes, read_text, read_json, read_yaml, read_xml)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ENTITIES = "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
XML_BOMB = f'<!DOCTYPE x [<!ENTITY a "{"lol" * 20}">{ENTITIES}]><x>&i;</x>'


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("what", ["gone", "folder", "pipe", "circle", "device", "NUL", "long name"])
def test_what_is_no_file_is_an_error_with_a_fix(read: Callable[..., Any], what: str, tmp_path: Path) -> None:
    path = {"device": Path("/dev/zero"), "NUL": tmp_path / "a\0b", "long name": tmp_path / ("x" * 300)}.get(
        what, tmp_path / "x"
    )
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
        if read is read_yaml:
            assert read_yaml(path, DataError) is None  # a pipe without a writer is empty
            return
    elif what == "circle":
        path.symlink_to(path)
    with pytest.raises(DataError) as caught:
        read(path, DataError)
    assert caught.value.where.startswith(str(path)[:5])
    assert caught.value.fix


def test_a_recipe_may_come_through_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, b"seed: 3")
    os.close(write)
    assert read_yaml(Path(f"/dev/fd/{read}"), DataError) == {"seed": 3}
    os.close(read)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(DataError, match="larger than 512 MiB"):
        read_bytes(tmp_path / "x", DataError)
    (tmp_path / "x.yaml").write_text("x" * (2**20 + 1))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        read_yaml(tmp_path / "x.yaml", DataError)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 20_000, "too many nested brackets"),
        ("9" * 5_000, "too many digits"),
        ("{", "line 1"),
        (b"\xff", "invalid start byte"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none(text: str | bytes, what: str) -> None:
    with pytest.raises(DataError, match=f"^x: not valid JSON: .*{what}"):
        parse_json(text, "x", DataError)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 20_000, "too many nested brackets"),
        ("- " * 20_000, "too many nested brackets"),
        ("{a: " * 101, "too many nested brackets"),
        ("a: " + "9" * 5_000, "too many digits"),
        ("a: 2024-13-45", "month"),
        (BOMB, "too many values"),
        (MERGED, "too many values"),
        ("a: &a [*a]", "aliases of what contains them"),
        ("a: &a {b: *a}", "aliases of what contains them"),
        ("? [a]\n: b", "unhashable"),
        ("a: !!python/object/apply:os.getcwd []", "constructor"),
        ("a: [", "parsing a flow"),
        (b"\xff\xfe\x00\xd8", "not valid YAML"),
    ],
)
def test_yaml_that_is_none(text: str | bytes, what: str) -> None:
    with pytest.raises(DataError, match=what):
        parse_yaml(text, "x", DataError)


def test_yaml_of_many_levels() -> None:
    assert parse_yaml("[" * 90 + "]" * 90, "x", DataError)


def test_yaml_with_aliases() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: [*a, *a]}", "x", DataError)["c"]["d"] == [{"b": 1}, {"b": 1}]


@pytest.mark.parametrize("text", [XML_BOMB, "<x>" * 50_000, "<x", "", '<?xml version="1.0" encoding="none"?><x/>'])
def test_xml_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(DataError, match=r"x\.xml: not valid XML"):
        read_xml(tmp_path / "x.xml", DataError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "1000000000000000000000000000000"),
        ("stages.tune.epochs", "1.0e+300"),
        ("stages.tune.epochs", "nan"),
        ("model.image_size", "1000000"),
        ("log_to", "[2024-13-45]"),
        ("log_to", "[" * 20_000),
        ("stages.tune.batch_size", "9" * 5_000),
        ("max_megapixels", "1000"),
    ],
)
def test_values_beyond_their_bounds_name_the_key(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=f"^--set {key}"):
        load(Recipe, Path("mini"), [f"{key}={value}"])


def test_a_recipe_is_written_as_it_is_read(tmp_path: Path) -> None:
    recipe = load(Recipe, Path("mini"))
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load(Recipe, tmp_path / "x.yaml") == recipe
