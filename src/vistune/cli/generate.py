"""`vistune generate`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.ending import tell
from vistune.cli.limits import add_limits, read_limits
from vistune.cli.options import add_command, add_data, add_seed, positive, read_records
from vistune.cli.teacher import add_teacher, read_teacher
from vistune.errors import VistuneError

if TYPE_CHECKING:
    from vistune.generate import Prompts
    from vistune.generate.kinds import Kind
    from vistune.llm import Client
    from vistune.records import ImageRecord


def add_generate(commands: Any) -> None:
    """Add the command."""
    summary = "have a teacher write instruction data from captions and boxes"
    command = add_command(commands, "generate", _generate, summary)
    add_data(command, "data", split="train")
    add = command.add_argument
    add(
        "--kinds", metavar="LIST", help="e.g. conversation=58k,detail=0.3,reasoning=all: images, a share (default: all)"
    )
    add("--kind-dir", type=Path, metavar="DIR", help="a kind of your own, or a folder of them (docs/kinds.md)")
    add("--language", default="en", metavar="NAME", help="what the teacher writes in (default: English)")
    add("--caption-language", default="en", metavar="NAME", help="that of the captions, for stage 1 (default: English)")
    add("--balance-captions", nargs="?", const="en_core_web_sm", metavar="PIPELINE",
        help="stage 1: keep rare things, cut frequent ones, by a spaCy pipeline (default: en_core_web_sm)")  # fmt: skip
    add("--format", default="llava", metavar="NAME", help="of the data: llava (default), messages or parquet")
    add("--image-side", choices=("first", "random"), default="first",
        help="where <image> stands in turn 1: before the question (default), or on a side drawn by seed")  # fmt: skip
    add("--keep-near-duplicates", action="store_true",
        help="keep samples that say nearly what one about an earlier image says (exact ones never stay)")  # fmt: skip
    add("--limit", type=positive, metavar="N", help="only the first N images")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the folder to write")
    what.add_argument("--show", action="store_true", help="only show what the teacher would see; nobody is asked")
    add_seed(command)
    add_teacher(command)
    add_limits(command)


def _generate(args: argparse.Namespace) -> None:
    if args.teacher.partition(":")[0] != "local":
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads would be started, and spin, for nothing
    from rich.console import Console

    from vistune.generate import DEFAULT_KINDS, First, Prompts, Shard, Style, parse_amounts
    from vistune.generate.estimate import estimate_table
    from vistune.generate.languages import language_code
    from vistune.generate.task import Task

    teacher, source = read_teacher(args), read_records(args)
    prompts = Prompts(args.kind_dir, args.language)
    kinds = parse_amounts(args.kinds, prompts.folders()) if args.kinds is not None else DEFAULT_KINDS
    _tell_own(prompts, kinds)
    records = source if args.limit is None else First(source, args.limit)
    if args.show:
        shown = [prompts.load(name, teacher.context.get(name)) for name in kinds]
        _show(records, shown, teacher, args.limit == 1)
        return
    if args.teacher == "symbolic" and language_code(args.language) != "en":
        raise VistuneError("the symbolic teacher writes English only", where="--language", fix="name a --teacher")
    style = Style(args.image_side, source.images, args.format, args.keep_near_duplicates)
    concurrency = teacher.at_once if args.concurrency is None else args.concurrency
    shard = Shard.parse(args.shard) if args.shard else None
    task = Task(
        records, teacher, args.out, kinds, prompts, args.seed, {}, concurrency, 1, style,
        Console(stderr=True), read_limits(args), shard, args.merge, args.pilot, args.caption_language,
        args.balance_captions,
    )  # fmt: skip
    if args.dry_run:
        Console().print(estimate_table(task.estimate(), task.limits.price))
        return
    outcome = task.run()
    Console().print(outcome.report.table(), outcome.report.quality_table())
    if args.pilot is not None:
        Console().print(estimate_table(task.estimate(), task.limits.price))
    tell(task, outcome)


def _tell_own(prompts: Prompts, asked: Collection[str]) -> None:
    """Name the kinds of --kind-dir, and those of them that are not asked for."""
    if own := prompts.own():
        print(f"kinds of {prompts.folder}: {', '.join(own)}", file=sys.stderr)
        if left := [name for name in own if name not in asked]:
            print(f"not asked for: {', '.join(left)}; --kinds has to name it, as in --kinds {left[0]}", file=sys.stderr)


def _show(records: Iterable[ImageRecord], kinds: Sequence[Kind], teacher: Client, whole: bool) -> None:
    from vistune.generate.show import show

    show(records, kinds, print, whole=whole)
    own = [f"{kind.name}: {' and '.join(kind.context)}" for kind in kinds if kind.name in teacher.context]
    parts = f", which wants other parts than most ({', '.join(own)})" if own else ""
    print(f"This is what the teacher '{teacher.name}' gets{parts}. Another --teacher NAME shows what that one gets.")
