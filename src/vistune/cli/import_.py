"""`vistune import`: questions with answers become conversations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_overwrite
from vistune.errors import DataError
from vistune.printable import print_line


def add_import(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "import", _import, "Turn questions about images, with answers, into conversations to train on",
        "Each row of FILE has an image, a question, and an answer, several answers, or\n"
        "choices and the right one.",
        usage="%(prog)s FILE --out FILE.json",
    )  # fmt: skip
    command.add_argument("file", type=Path, metavar="FILE", help="JSON lines, JSON list, CSV or parquet")
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE.json", help="File to write, in LLaVA's format"
    )
    add_overwrite(command)


def _import(args: argparse.Namespace) -> None:
    from vistune.data.questions import read_questions
    from vistune.data.split import write_rows
    from vistune.output_folder import locked_file
    from vistune.storage import new_files

    with locked_file(args.out):
        rows = [question.training_row() for question in read_questions(args.file)]
        if not rows:
            raise DataError(
                "there are no questions in it", where=str(args.file), fix="check that it is the file you mean"
            )
        with new_files(args.out, overwrite=args.overwrite) as (partial,):
            write_rows(partial, rows)
    print_line(f"{len(rows):,} conversations: {args.out}")
