"""`vistune scienceqa`: ScienceQA's problems become conversations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_out, add_overwrite
from vistune.data.scienceqa import FORMATS
from vistune.printable import print_line

_DETAILS = """\
DATA is the folder with problems.json, pid_splits.json and images. The format
says what a prompt and its answer hold, in order: question, context, multiple
choices; lecture, explanation, answer."""


def add_scienceqa(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "scienceqa", _convert, "Turn ScienceQA's problems into conversations to train on", _DETAILS,
        usage="%(prog)s DATA --out DIR [OPTIONS]",
    )  # fmt: skip
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="Folder of ScienceQA, or its problems.json")
    add("--split", default="train", metavar="SPLIT", help="Split of the problems (default: train)")
    add("--format", choices=FORMATS, default="QCM-LEA", help="Layout of prompt and answer (default: QCM-LEA)")
    add_out(command)
    add_overwrite(command)


def _convert(args: argparse.Namespace) -> None:
    from vistune.data.scienceqa import conversations
    from vistune.formats.conversations import write_llava
    from vistune.output_folder import locked
    from vistune.storage import new_files

    out = Path(args.out)
    path = out / f"{args.split}_{args.format}.json"
    with locked(out), new_files(path, overwrite=args.overwrite) as (partial,):
        number = write_llava(conversations(args.data, args.split, args.format), partial)
    folder = args.data if args.data.is_dir() else args.data.parent
    print_line(f"{number:,} conversations: {path}")
    print_line(f"their images: {folder / 'images'}")
