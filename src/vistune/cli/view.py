"""`vistune view`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.options import add_command, add_seed, count

if TYPE_CHECKING:
    from vistune.records import ImageRecord


def add_view(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "view", _view, "show samples of instruction data with their images, in one HTML file"
    )
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="a file of conversations, or the folder that generate wrote")
    add("--images", type=Path, metavar="DIR", help="the folder that image paths start from (default: that of DATA)")
    add("--annotations", type=Path, metavar="DIR", help="the annotated images, for their boxes and captions")
    add("--source", default="coco", metavar="NAME", help="the annotations' format (default: coco)")
    add("--split", metavar="NAME", help="which of them (default: train, where the source always has splits)")
    add("--limit", type=count, default=50, metavar="N", help="samples to show (default: 50)")
    add("--rejected", action="store_true", help="show only what was filtered or quarantined")
    add("--out", type=Path, metavar="FILE", help="the page (default: view.html beside the data)")
    add_seed(command)


def _view(args: argparse.Namespace) -> None:
    from vistune.sources import open_source, sources
    from vistune.view import write_view

    out = args.out or (args.data if args.data.is_dir() else args.data.parent) / "view.html"
    records: Iterable[ImageRecord] = ()
    if args.annotations:
        split = args.split or ("train" if sources.get(args.source).needs_split else None)
        records = open_source(args.source, args.annotations, split, on_error=lambda _: None)
    shown = write_view(
        args.data, out, images=args.images, records=records, limit=args.limit, seed=args.seed,
        only_rejected=args.rejected,
    )  # fmt: skip
    print(f"{shown} samples: {out}")
