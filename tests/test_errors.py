from __future__ import annotations

import ast
from pathlib import Path

import vistune.errors
from vistune.errors import AnnotationError, VistuneError, did_you_mean

ERRORS = {
    name: kind for name, kind in vars(vistune.errors).items()
    if isinstance(kind, type) and issubclass(kind, VistuneError)
}  # fmt: skip
SOURCE = Path(vistune.errors.__file__).parent


def test_a_message_says_where_what_and_how_to_fix_it() -> None:
    error = AnnotationError("the caption is empty", where="captions.json: annotation 3", fix="write it")
    assert str(error) == "captions.json: annotation 3: the caption is empty\n  fix: write it"
    assert (error.what, error.where, error.fix) == ("the caption is empty", "captions.json: annotation 3", "write it")
    assert str(VistuneError("no")) == "no"
    assert error.exit_code == 2


def test_a_message_fits_the_terminal() -> None:
    error = VistuneError(f"'{'9' * 5000}' is no number", where="/a/long/path" * 30, fix="write " + "one " * 5000)
    assert error.where == "/a/long/path" * 30
    assert error.what.startswith("'999")
    assert error.what.endswith("9' is no number")
    assert len(str(error)) < 4000


def test_did_you_mean() -> None:
    assert did_you_mean("trian", ["train", "val"]) == "did you mean 'train'?"
    assert did_you_mean("zzz", iter(["val", "train"])) == "one of: train, val"


def without_fix(file: Path) -> list[int]:
    """The lines where an error is made that says nothing of what to do, as its class does not either."""
    lines = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "fix"]
        is_empty = not given or (isinstance(given[0], ast.Constant) and not given[0].value)
        is_class_given = name == "error" and any(keyword.arg == "where" for keyword in node.keywords)
        if is_empty and ((name in ERRORS and not ERRORS[name].usual_fix) or is_class_given):
            lines.append(node.lineno)
    return lines


def test_every_error_says_what_to_do() -> None:
    found = [f"{file}:{line}" for file in sorted(SOURCE.rglob("*.py")) for line in without_fix(file)]
    assert not found, "\n".join(found)
    assert AnnotationError("x").fix
