"""`vistune report`: evaluations side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command


def add_report(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "report", _report, "Compare evaluations: scores, and paired differences to the first",
        "A star marks a difference whose 95 % interval excludes zero.",
        usage="%(prog)s RUN...",
    )  # fmt: skip
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="Folder that vistune eval wrote")


def _report(args: argparse.Namespace) -> None:
    from vistune.evaluate.compare import print_comparison

    print_comparison(args.runs)
