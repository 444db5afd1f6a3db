"""`vistune train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, announce_loading, is_first_process
from vistune.printable import print_line
from vistune.recipe import schema
from vistune.recipe.training import Recipe

_RESUMING = """\
After an interruption the same command resumes the run. SIGINT (Ctrl-C) and
SIGTERM end it after the current step. Exit codes: 0 finished, 2 an error in
what was given, 74 disk full, 130 SIGINT, 143 SIGTERM."""


def add_train(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "train", _train, "Train an assistant, stage by stage, from a recipe", _RESUMING,
        epilog=f"keys of a recipe:\n{schema.describe(Recipe, 79)}",
    )  # fmt: skip
    add = command.add_argument
    add("recipe", type=Path, metavar="RECIPE", help="YAML file, or the name of a shipped recipe (see vistune recipes)")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="Change a key of the recipe, e.g. stages.tune.data=FILE; may be repeated",
    )  # fmt: skip
    mode = command.add_mutually_exclusive_group(required=True)
    mode.add_argument("--out", type=Path, metavar="DIR", help="Folder to write")
    mode.add_argument(
        "--plan", action="store_true", help="Print the steps, memory and time that the run takes; train nothing"
    )


def _train(args: argparse.Namespace) -> None:
    recipe = schema.load(Recipe, args.recipe, args.set)
    announce_loading()
    if args.plan:
        from vistune.terminal import Terminal
        from vistune.train.plan import plan, table

        Terminal().print(table(plan(recipe)))
        return
    from vistune.evaluate.run import step_evaluation
    from vistune.train.run import train

    checkpoint = train(recipe, args.out, step_evaluation(recipe.evaluation) if recipe.evaluation else None)
    if is_first_process():
        print_line(f"{checkpoint}\ntry it: vistune chat {checkpoint} --image FILE")
