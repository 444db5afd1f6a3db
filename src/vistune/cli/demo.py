"""`vistune demo` and `vistune demo-data`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_out, add_overwrite, add_seed, announce_loading, count
from vistune.printable import print_line


def add_demo(commands: Any) -> None:
    """Add `vistune demo`."""
    summary = "Run the whole flow on Emoji-COCO in a few minutes; no GPU, no network"
    command = add_command(commands, "demo", _run_demo, summary)
    add_out(command, "runs/demo")
    add_overwrite(command)
    add_seed(command)


def add_demo_data(commands: Any) -> None:
    """Add `vistune demo-data`."""
    command = add_command(commands, "demo-data", _write_data, "Draw Emoji-COCO, the demo's data set, in COCO's format")
    add_out(command)
    add_overwrite(command)
    add_seed(command)
    for split, size in (("train", 6000), ("val", 400), ("test", 400)):
        help_ = f"Number of images of the split {split} (default: {size})"
        command.add_argument(f"--{split}", type=count, default=size, metavar="N", help=help_)


def _run_demo(args: argparse.Namespace) -> None:
    announce_loading()
    from vistune.demo.run import run_demo

    run_demo(Path(args.out), args.seed, overwrite=args.overwrite)


def _write_data(args: argparse.Namespace) -> None:
    from vistune.demo.dataset import write_dataset

    sizes = {"train": args.train, "val": args.val, "test": args.test}
    write_dataset(Path(args.out), seed=args.seed, **sizes, overwrite=args.overwrite)
    print_line(f"{sum(sizes.values())} images in {args.out}")
