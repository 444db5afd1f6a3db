from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.registry import Registry


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    """A registry over a package of its own with two entries and a helper."""
    package = tmp_path / "shape_kinds"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from vistune.registry import Registry\nshapes = Registry('shape', 'shape_kinds')\n"
    )
    for name in ("circle", "square"):
        (package / f"{name}.py").write_text(
            f"from shape_kinds import shapes\n\n@shapes.register('{name}')\nclass Shape:\n    called = '{name}'\n"
        )
    (package / "_helper.py").write_text("raise ImportError('a helper is no entry')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from shape_kinds import shapes  # type: ignore[import-not-found]

    yield shapes
    for module in [name for name in sys.modules if name.startswith("shape_kinds")]:
        del sys.modules[module]


def test_a_new_file_is_a_new_entry_imported_on_first_look_up(shapes: Registry[type]) -> None:
    assert "shape_kinds.circle" not in sys.modules
    assert shapes.names() == ["circle", "square"]
    assert shapes.get("circle").called == "circle"


def test_an_unknown_name_gets_a_suggestion(shapes: Registry[type]) -> None:
    with pytest.raises(VistuneError, match=r"unknown shape 'squar'\n  fix: did you mean 'square'\?"):
        shapes.get("squar")


def test_names_are_exact(shapes: Registry[type]) -> None:
    with pytest.raises(VistuneError, match="unknown shape 'Circle'"):
        shapes.get("Circle")


def test_a_duplicate_fails(shapes: Registry[type]) -> None:
    shapes.names()
    with pytest.raises(ValueError, match="two entries for shape 'circle'"):
        shapes.register("circle")(object)
