"""What the commands share: how their help looks, and options that several of them have."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import AnnotationError

if TYPE_CHECKING:
    from vistune.sources import Source

_MOST = 10**15
"""More than that is a mistake, and more than some of what uses these numbers can take."""


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
    """The annotated images: the argument `name`, --split, --source, its options, --skip-bad-records."""
    known = {"required": True} if name.startswith("-") else {}
    add = command.add_argument
    add(name, type=Path, metavar="PATH", help="the annotated images: a folder or file, or hub:owner/name", **known)
    add("--split", metavar="NAME", help=f"which of them (default: {split}, where the source always has splits)")
    add("--source", default="coco", metavar="NAME", help="the annotations' format (default: coco)")
    add("--images", type=Path, metavar="DIR", help="the folder that image paths start from (captions, caps_boxes)")
    add("--image-column", metavar="NAME", help="the column of images (captions, caps_boxes, datasets)")
    add("--caption-column", action="append", metavar="NAME", help="a column of captions, of the same; may be repeated")
    add("--objects-column", metavar="NAME", help="the column of boxes (datasets; default: objects)")
    add("--box-format", choices=("xywh", "xyxy"), help="what its boxes are, in pixels (datasets; default: xywh)")
    add("--subset", metavar="NAME", help="the data set's configuration (datasets)")
    add("--category-names", type=Path, metavar="FILE", help="the classes' names, one a line (yolo)")
    add("--skip-bad-records", action="store_true", help="leave out records with a mistake instead of stopping at one")
    command.set_defaults(default_split=split)


_SOURCE_OPTIONS = (
    "images", "image_column", "caption_column", "objects_column", "box_format", "subset", "category_names",
)  # fmt: skip


def read_records(args: argparse.Namespace) -> Source:
    """The records of the images that `add_data` names."""
    from vistune.sources import open_source, sources, stop

    def skip(error: AnnotationError) -> None:
        print(f"left out: {error}", file=sys.stderr)

    split = args.split or (args.default_split if sources.get(args.source).needs_split else None)
    options = {name: value for name in _SOURCE_OPTIONS if (value := getattr(args, name)) is not None}
    on_error = skip if args.skip_bad_records else stop
    return open_source(args.source, args.data, split, on_error=on_error, **options)


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 up to 10^15")
    return int(text)


def positive_number(text: str) -> float:
    """A number above 0; neither infinite nor `nan`, with which nothing can be compared."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and up to 10^15")
    return value
