"""`vistune split`: rows for training and rows for the test, with no image in both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_out, add_overwrite, add_seed
from vistune.printable import print_line


def add_split(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "split", _split, "Split conversations or questions into training and test rows, by image",
        "All rows about an image are in one part, and so are near-identical images.",
        usage="%(prog)s DATA --test SHARE --out DIR",
    )  # fmt: skip
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="JSON lines, JSON list, CSV or parquet with a column of images")
    add("--test", type=float, default=0.1, metavar="SHARE", help="Share of the images for the test (default: 0.1)")
    add("--images", type=Path, metavar="DIR", help="Folder that image paths start from (default: that of DATA)")
    add_out(command)
    add_overwrite(command)
    add_seed(command)


def _split(args: argparse.Namespace) -> None:
    from vistune.data.split import split, write_rows
    from vistune.output_folder import locked
    from vistune.storage import new_files

    parts = split(args.data, args.images or args.data.parent, args.test, args.seed)
    out = Path(args.out)
    paths, both = (out / "train.json", out / "test.json"), (parts.train, parts.test)
    with locked(out), new_files(*paths, overwrite=args.overwrite) as partials:
        for partial, rows in zip(partials, both, strict=True):
            write_rows(partial, rows)
    for path, rows in zip(paths, both, strict=True):
        print_line(f"{len(rows):,} rows: {path}")
    if parts.near_identical:
        print_line(f"near-identical images, in the part of the first: {parts.near_identical:,}")
