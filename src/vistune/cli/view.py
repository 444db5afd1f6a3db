"""`vistune view`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.options import add_options, given_options, read_records
from vistune.cli.parsing import add_command, add_overwrite, add_seed, count
from vistune.errors import VistuneError
from vistune.printable import print_line
from vistune.recipe.generation import AnnotationOptions
from vistune.recipe.schema import load, option_name

_OWN = {"data", "images", "allow_outside", "max_megapixels"}
"""Options of annotated images that are about the samples' images, too."""


def add_view(commands: Any) -> None:
    """Add the command."""
    summary = "Show samples of instruction data with their images, in one HTML file"
    command = add_command(commands, "view", _view, summary, usage="%(prog)s DATA [OPTIONS]")
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="File of conversations, or a folder that generate wrote")
    add("--images", type=Path, metavar="DIR", help="Folder that image paths start from (default: that of the run)")
    add("--limit", type=count, default=50, metavar="N", help="Number of samples to show (default: 50)")
    add("--rejected", action="store_true", help="Show only samples that were filtered or quarantined")
    add("--out", type=Path, metavar="FILE", help="File to write (default: view.html beside the data)")
    add_overwrite(command)
    add_seed(command)
    add("--annotations", metavar="PATH", help="Annotated images, to show their boxes and captions")
    add_options(command, AnnotationOptions, skip=("data", "annotations", "images", "skip_bad_records"))


def _view(args: argparse.Namespace) -> None:
    from vistune.output_folder import locked_file
    from vistune.view.page import write_view

    out = args.out or (args.data if args.data.is_dir() else args.data.parent) / "view.html"
    others = {"data": args.annotations, "images": None, "skip_bad_records": True}
    given = given_options(args, AnnotationOptions)
    unused = {name for name, value in given.items() if value not in (None, False, [])} - _OWN
    if unused and not args.annotations:
        fix = "name the annotated images with --annotations, or leave the option out"
        raise VistuneError("it is about annotated images", where=option_name(min(unused)), fix=fix)
    options = load(AnnotationOptions, None, options=given | others)
    records = read_records(args, "train", **others) if args.annotations else ()
    with locked_file(out):
        shown = write_view(
            args.data, out, images=args.images, records=records, limit=args.limit, seed=args.seed,
            only_rejected=args.rejected, overwrite=args.overwrite, allow_outside=options.allow_outside,
            max_megapixels=options.max_megapixels, warn=lambda text: print_line(text, error=True),
        )  # fmt: skip
    print_line(f"{shown} samples: {out}")
