"""`vistune ablate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_out, add_overwrite, announce_loading, positive
from vistune.errors import RecipeError
from vistune.printable import print_line

_DETAILS = """\
Without --mix, --fractions, --grid and --skip these are the five mixes of the
paper's table 4. The earlier stages are trained once. The recipe's `evaluation`
names the benchmarks. The same command resumes."""


def add_ablate(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "ablate", _ablate, "Train on several data mixes or with other settings, and compare", _DETAILS,
        usage="%(prog)s RECIPE --out DIR [OPTIONS]",
    )  # fmt: skip
    add = command.add_argument
    add("recipe", type=Path, metavar="RECIPE", help="YAML file, or the name of a shipped recipe")
    add_out(command, "runs/ablation")
    add_overwrite(command)
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated")
    add("--mix", action="append", default=[], metavar="KINDS",
        help="Data of a variant's last stage: all, none, or kinds with shares, as in conversation,detail=0.05; may be "
        "repeated")  # fmt: skip
    add("--fractions", default="", metavar="SHARES", help="Shares of all data, one variant each, as in 0.1,0.2,0.5")
    add("--grid", action="append", default=[], metavar="KEY=VALUES",
        help="Values of a key, as in model.feature_layer=-1,-2; of several keys all combinations")  # fmt: skip
    add("--skip", action="append", default=[], metavar="STAGE", help="A variant without this stage; may be repeated")
    add("--seeds", type=positive, default=1, metavar="N", help="Number of seeds, from the recipe's on (default: 1)")


def _ablate(args: argparse.Namespace) -> None:
    announce_loading()
    from vistune.evaluate.ablate import ablate, print_table, variants

    fractions = [_share(text) for text in args.fractions.split(",") if text]
    chosen = variants(args.mix, fractions, args.grid, args.skip)
    out = Path(args.out)
    rows = ablate(args.recipe, out, chosen, overrides=args.set, seeds=args.seeds, overwrite=args.overwrite)
    print_table(rows)
    print_line(f"table: {Path(args.out) / 'ablation.json'}")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        what = f"'{text}' is no share of the data"
        raise RecipeError(what, where="--fractions", fix="give numbers from 0 to 1, as in 0.1,0.2,0.5")
    return share
