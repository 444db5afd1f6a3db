"""`vistune report`: evaluations side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_overwrite
from vistune.printable import print_line


def add_report(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "report", _report, "Compare evaluations: scores, and paired differences to the first",
        "Writes report.html with scores, differences, plots and every answer, and the\n"
        "images beside it. A star marks a difference whose 95 % interval excludes zero.",
        usage="%(prog)s RUN... [--out DIR]",
    )  # fmt: skip
    add = command.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="Folder that vistune eval wrote")
    add("--power", type=float, metavar="POINTS", help="Also print how many questions show such a difference between "
        "the first two RUNs, or one RUN and another model, with a probability of 80 %%")  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="Folder for report.html (default: beside the first RUN)")
    add_overwrite(command)


def _report(args: argparse.Namespace) -> None:
    from vistune.evaluate.compare import print_comparison, print_power
    from vistune.evaluate.report import REPORT, write_report
    from vistune.output_folder import locked_file

    out = args.out or args.runs[0].absolute().parent
    with locked_file(out / REPORT):
        page = write_report(out, args.runs, overwrite=args.overwrite)
    print_comparison(args.runs)
    if args.power is not None:
        print_power(args.runs, args.power / 100)
    print_line(f"report: {page}")
