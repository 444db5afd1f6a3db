"""`vistune recipes`."""

from __future__ import annotations

import argparse
from typing import Any

from vistune.cli.parsing import add_command, wrap
from vistune.recipe.yaml_file import shipped, shipped_recipe


def add_recipes(commands: Any) -> None:
    """Add the command."""
    details = "To change one:  vistune recipes NAME > my.yaml"
    command = add_command(commands, "recipes", _print, "List the shipped training recipes, or print one", details)
    command.add_argument("name", nargs="?", metavar="NAME", help="Recipe to print")


def _print(args: argparse.Namespace) -> None:
    if args.name:
        print(shipped_recipe(args.name).read_text("utf-8"), end="")
        return
    paths = sorted(shipped().glob("*.yaml"))
    width = max(len(path.stem) for path in paths) + 2
    for path in paths:
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        print(wrap(f"{path.stem:{width}}{title}", indent=" " * width))
