"""What the commands share: how their help looks, and options that several of them have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import AnnotationError

if TYPE_CHECKING:
    from vistune.records import ImageRecord


def formatted(make: Callable[..., argparse.ArgumentParser], *names: str, **options: Any) -> argparse.ArgumentParser:
    """A parser whose help keeps the line ends of its texts."""
    return make(*names, formatter_class=argparse.RawDescriptionHelpFormatter, **options)


def add_command(commands: Any, name: str, run: Callable[[Any], None], summary: str, **options: Any) -> Any:
    """A new command; `run` gets its arguments, `summary` becomes its help."""
    parser = formatted(commands.add_parser, name, help=summary, description=f"{summary}.", **options)
    parser.set_defaults(run=run)
    return parser


def add_out(command: Any, default: str | None = None) -> None:
    """--out, the folder to write."""
    known = {"default": Path(default)} if default else {"required": True}
    help_ = "the folder to write" + (f" (default: {default})" if default else "")
    command.add_argument("--out", type=Path, metavar="DIR", help=help_, **known)


def add_seed(command: Any) -> None:
    """--seed."""
    command.add_argument("--seed", type=count, default=0, metavar="N", help="of all random choices (default: 0)")


def add_data(command: Any, name: str, split: str) -> None:
    """The annotated images: the argument `name`, --split, --source, --skip-bad-records."""
    known = {"required": True} if name.startswith("-") else {}
    command.add_argument(name, type=Path, metavar="DIR", help="the folder of the annotated images", **known)
    command.add_argument("--split", default=split, metavar="NAME", help=f"which of them (default: {split})")
    command.add_argument("--source", default="coco", metavar="NAME", help="the annotations' format (default: coco)")
    command.add_argument(
        "--skip-bad-records", action="store_true", help="leave out records with a mistake instead of stopping at one"
    )


def read_records(args: argparse.Namespace) -> Iterable[ImageRecord]:
    """The records of the images that `add_data` names."""
    from vistune.sources import sources, stop

    def skip(error: AnnotationError) -> None:
        print(f"left out: {error}", file=sys.stderr)

    read = sources.get(args.source)
    return read(args.data, args.split, on_error=skip if args.skip_bad_records else stop)


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)
