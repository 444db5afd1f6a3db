"""A recipe's content before it is checked: where its file is, and single keys changed from the command line."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from vistune import reading
from vistune.errors import RecipeError, did_you_mean


def shipped() -> Path:
    """The folder of the shipped recipes: in an installed package, or beside `src` in a checkout."""
    package = Path(str(resources.files("vistune")))
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def shipped_recipe(name: str) -> Path:
    """The file of a shipped recipe. Raises RecipeError with a suggestion for an unknown name."""
    path = shipped() / f"{name}.yaml"
    if not path.is_file():
        names = [other.stem for other in shipped().glob("*.yaml")]
        raise RecipeError("there is no such recipe", where=name, fix=did_you_mean(name, names))
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a recipe's file, or of the shipped recipe of that name if there is no such file.

    Raises RecipeError for a file that cannot be read or holds no mapping.
    """
    is_name = path.name == str(path)
    if is_name and not path.exists() and path.suffix != ".yaml":
        path = shipped_recipe(path.name)
    if not path.exists():
        near = [str(other) for other in path.parent.glob("*.yaml")]
        raise RecipeError("there is no such recipe", where=str(path), fix=did_you_mean(str(path), near))
    content = reading.read_yaml(path, RecipeError)
    if not isinstance(content, dict):
        fix = "write lines such as `seed: 0`; vistune recipes NAME prints a whole one"
        raise RecipeError("a recipe is a mapping of keys to values", where=str(path), fix=fix)
    return content


def override(content: dict[str, Any], setting: str) -> None:
    """Set one `dotted.key=value`. Numbers stay text: the key's type says how to read them. Raises RecipeError."""
    dotted, equals, text = setting.partition("=")
    where = f"--set {setting}"
    if not equals:
        raise RecipeError("no value is given", where=where, fix=f"--set {dotted}=VALUE")
    *parents, last = dotted.split(".")
    target: Any = content
    for key in parents:
        if isinstance(target, list):
            target = {item.get("name"): item for item in target if isinstance(item, dict)}
        if not isinstance(target, dict) or key not in target:
            known = map(str, target) if isinstance(target, dict) else ()
            raise RecipeError(f"there is no '{key}'", where=where, fix=did_you_mean(key, known))
        target = target[key]
    if not isinstance(target, dict):
        raise RecipeError("only a single value can be set", where=where, fix="stages.<name>.<key>=VALUE")
    is_yaml = text.startswith(("[", "{")) or text == "null"
    target[last] = reading.parse_yaml(text, where, RecipeError) if is_yaml else text
