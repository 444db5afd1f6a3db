"""`vistune merge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_out, add_overwrite, announce_loading
from vistune.printable import print_line


def add_merge(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "merge", _merge, "Merge a projector or adapters into a whole checkpoint")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="Folder of a projector or of adapters")
    dtypes = ("float32", "bfloat16", "float16")
    command.add_argument("--dtype", choices=dtypes, default=dtypes[0], help="dtype of the weights (default: float32)")
    add_out(command)
    add_overwrite(command)


def _merge(args: argparse.Namespace) -> None:
    announce_loading()
    from vistune.model.adapter_checkpoint import merge

    merge(args.checkpoint, Path(args.out), args.dtype, overwrite=args.overwrite)
    print_line(args.out)
