"""`vistune eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.options import add_options, read_records
from vistune.cli.parsing import add_command, add_out, add_seed, announce_loading, count
from vistune.recipe.generation import AnnotationOptions


def add_eval(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "eval",
        _evaluate,
        "Score an assistant on held-out annotated images",
        usage="%(prog)s CHECKPOINT --data PATH --out DIR [OPTIONS]",
    )
    add = command.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="Folder of the assistant")
    add("--data", required=True, metavar="PATH", help="Annotated images: a folder, a file, or hub:owner/name")
    add_out(command)
    add_seed(command)
    add("--limit", type=count, metavar="N", help="Number of images to use, from the first")
    add("--blind", action="store_true", help="Blank the images, to measure what can be guessed without seeing")
    add_options(command, AnnotationOptions, skip=("data",))


def _evaluate(args: argparse.Namespace) -> None:
    from vistune.sources import with_size

    records = [with_size(record) for record in read_records(args, "test")]
    announce_loading()
    from vistune.evaluate.runner import evaluate, print_scores

    out = Path(args.out)
    label = args.checkpoint.name + (" (blind)" if args.blind else "")
    scores = evaluate(
        args.checkpoint, records, out=out, label=label, seed=args.seed, limit=args.limit, blank_images=args.blind
    )
    print_scores([scores])
    print(f"answers: {out / 'answers.jsonl'}")
