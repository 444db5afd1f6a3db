"""The command line. Its commands stand in the order of the flow and import their stage only when they run."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.cli.generate import add_generate
from vistune.cli.options import add_command, add_data, add_out, add_seed, count, formatted, read_records
from vistune.cli.view import add_view
from vistune.errors import Stopped, VistuneError

_FLOW = """\
Visual instruction tuning: from annotated images to an assistant that talks about them.

  annotations ─ generate ─> conversations ─ train ─> assistant ─ eval ─> scores
                                                         └────── chat ─> answers
"""
_START = """\
Start with:  vistune demo
Then give your own images, in COCO's format, to `vistune generate`. `vistune COMMAND --help` explains a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for an error of the user's, 74 for a full disk, 130 when interrupted.

    A training ended by a signal gives 128 and the signal's number: 130 for SIGINT, 143 for SIGTERM. 141 is that of
    SIGPIPE, for when nobody reads the output any more.
    """
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if _is_read():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except VistuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # no space left, no permission, not a folder …
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return VistuneError.exit_code
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _is_read() -> bool:
    """Whether somebody reads the output; after `| head` nobody does."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are told of unasked
    return not poll.poll(0)


class _Version(argparse.Action):
    """Looks the version up only where it is asked for: every command would wait for that."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:  # noqa: ARG002
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"vistune {version('vistune')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = formatted(argparse.ArgumentParser, prog="vistune", description=_FLOW, epilog=_START)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_demo, _add_demo_data, add_generate, add_view, _add_train, _add_merge, _add_eval, _add_chat):
        add(commands)
    return parser


def _add_demo(commands: Any) -> None:
    command = add_command(commands, "demo", _demo, "the whole flow on Emoji-COCO: a few minutes, no GPU, no network")
    add_out(command, "runs/demo")
    add_seed(command)


def _demo(args: argparse.Namespace) -> None:
    from vistune.demo.run import run_demo

    run_demo(args.out, args.seed)


def _add_demo_data(commands: Any) -> None:
    command = add_command(commands, "demo-data", _demo_data, "draw Emoji-COCO, the demo's data set in COCO's format")
    add_out(command)
    add_seed(command)
    for split, size in (("train", 6000), ("val", 400), ("test", 400)):
        command.add_argument(f"--{split}", type=count, default=size, metavar="N", help=f"images (default: {size})")


def _demo_data(args: argparse.Namespace) -> None:
    from vistune.demo.dataset import write_dataset

    write_dataset(args.out, seed=args.seed, train=args.train, val=args.val, test=args.test)
    print(f"{args.train + args.val + args.test} images in {args.out}")


def _add_train(commands: Any) -> None:
    command = add_command(
        commands, "train", _train, "train an assistant, stage by stage, as a recipe says", add_help=False,
        epilog="""\
Interrupted, the same command goes on where the run was. SIGINT (Ctrl-C) and SIGTERM end it after the current step.
Exit codes: 0 finished, 2 your mistake, 74 disk full, 130 SIGINT, 143 SIGTERM.""",
    )  # fmt: skip
    command.add_argument(
        "-h", "--help", action=_HelpWithKeys, nargs=0, default=argparse.SUPPRESS,
        help="show this and every key of a recipe",
    )  # fmt: skip
    command.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="a YAML file, or the name of one of ours, like mini"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change a key of the recipe, e.g. stages.tune.data=FILE (may be repeated)",
    )  # fmt: skip
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the folder to write")
    what.add_argument("--plan", action="store_true", help="only say what would be trained, what it takes and costs")


def _train(args: argparse.Namespace) -> None:
    from vistune.recipe import schema
    from vistune.recipe.training import Recipe

    recipe = schema.load(Recipe, args.recipe, args.set)
    if args.plan:
        from rich.console import Console

        from vistune.train.plan import plan, table

        Console().print(table(plan(recipe)))
        return
    from vistune.train.run import train

    checkpoint = train(recipe, args.out)
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        print(f"{checkpoint}\ntry it: vistune chat {checkpoint} --image FILE")


class _HelpWithKeys(argparse.Action):
    """--help with the recipe's keys below, which need the recipe's module."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from vistune.recipe import schema
        from vistune.recipe.training import Recipe

        parser.epilog = f"{parser.epilog}\n\nkeys of a recipe:\n{schema.describe(Recipe)}"
        parser.print_help()
        parser.exit()


def _add_merge(commands: Any) -> None:
    command = add_command(commands, "merge", _merge, "write a checkpoint of what was trained only as a whole one")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the folder of a projector or adapters")
    command.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="its numbers (default: float32)"
    )
    add_out(command)


def _merge(args: argparse.Namespace) -> None:
    from vistune.model.light import merge

    merge(args.checkpoint, args.out, args.dtype)
    print(args.out)


def _add_eval(commands: Any) -> None:
    command = add_command(commands, "eval", _eval, "score an assistant on held-out annotated images")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the assistant's folder")
    add_data(command, "--data", split="test")
    add_out(command)
    add_seed(command)
    command.add_argument("--limit", type=count, metavar="N", help="ask about the first N images only")
    command.add_argument("--blind", action="store_true", help="blank the images: what can be guessed without seeing")


def _eval(args: argparse.Namespace) -> None:
    from vistune.sources.image_files import with_size

    records = [with_size(record) for record in read_records(args)]
    from vistune.evaluate.runner import evaluate, print_scores

    label = args.checkpoint.name + (" (blind)" if args.blind else "")
    scores = evaluate(
        args.checkpoint, records, out=args.out, label=label, seed=args.seed, limit=args.limit, blank_images=args.blind
    )
    print_scores([scores])
    print(f"every answer: {args.out / 'answers.jsonl'}")


def _add_chat(commands: Any) -> None:
    command = add_command(commands, "chat", _chat, "talk with an assistant about an image")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the assistant's folder")
    command.add_argument("--image", type=Path, metavar="FILE", help="the image to talk about")
    command.add_argument(
        "--max-new-tokens", type=count, default=512, metavar="N", help="an answer's longest length (default: 512)"
    )


def _chat(args: argparse.Namespace) -> None:
    from vistune.serve.terminal import chat

    chat(args.checkpoint, args.image, args.max_new_tokens)
