"""`vistune generate`."""

from __future__ import annotations

import argparse
from typing import Any

from vistune.commands.options import add_command, add_data, add_out, add_seed, read_records


def add_generate(commands: Any) -> None:
    """Add the command."""
    summary = "have a teacher write instruction data from captions and boxes"
    command = add_command(commands, "generate", _generate, summary)
    add_data(command, "data", split="train")
    command.add_argument(
        "--teacher", default="symbolic", metavar="NAME", help="who writes (default: symbolic, which follows rules)"
    )
    add_out(command)
    add_seed(command)


def _generate(args: argparse.Namespace) -> None:
    from rich.console import Console

    from vistune.clients import open_client
    from vistune.generate import Style, generate

    teacher, records = open_client(args.teacher), read_records(args)
    report = generate(records, teacher, args.out, seed=args.seed, style=Style(images=args.data))
    Console().print(report.table(), report.quality_table())
    for name, path in (("stage 1", "align.json"), ("stage 2", "instruct.json"), ("report", "report.html")):
        print(f"{name}: {args.out / path}")
    print(f"images: {args.data}")
