"""`vistune eval`: its options are the fields of `EvaluateRecipe`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.options import add_options, given_options
from vistune.cli.parsing import add_command, add_out, add_overwrite, announce_loading
from vistune.printable import print_line
from vistune.recipe.evaluation import EvaluateRecipe
from vistune.recipe.schema import load


def add_eval(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "eval",
        _evaluate,
        "Score a model on benchmarks, or on questions about own images",
        usage="%(prog)s MODEL --out DIR [OPTIONS]",
    )
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("model", nargs="?", metavar="MODEL", help="Folder of a checkpoint, hf:ID of another "
        "vision-language model of transformers, or openai:NAME of one behind a server")  # fmt: skip
    model.add_argument("--model", dest="named", metavar="MODEL", help="The same, as an option")
    add_out(command)
    add_overwrite(command)
    add_options(command, EvaluateRecipe)


def _evaluate(args: argparse.Namespace) -> None:
    from vistune.evaluate.run import Evaluation

    recipe = load(EvaluateRecipe, None, options=given_options(args, EvaluateRecipe))
    run = Evaluation(args.named if args.model is None else args.model, recipe, Path(args.out), overwrite=args.overwrite)
    announce_loading()
    from vistune.evaluate.tables import print_scores

    print_scores([run.run()])
    print_line(f"answers and verdicts: {run.out}")
    run.check()
