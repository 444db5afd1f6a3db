"""How commands read their arguments: help that wraps between words, and mistakes in one line with a suggestion."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from vistune.errors import VistuneError, did_you_mean
from vistune.recipe.evaluation import DTYPES

Run = Callable[[argparse.Namespace], None]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions; help of options wraps at 80 columns, or at the terminal's if it is narrower."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(80, shutil.get_terminal_size().columns) - 1)
        self._action_max_length = 14  # argparse forgets that it indents commands

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


class Parser(argparse.ArgumentParser):
    """A parser that raises VistuneError in place of printing its usage and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_HelpFormatter, add_help=False, **options)
        self.add_argument("-h", "--help", action="help", help="Print this help")

    def error(self, message: str) -> NoReturn:
        raise VistuneError(message.removeprefix("argument "), fix=f"see {self.prog} --help")

    def check_options(self, arguments: Sequence[str]) -> None:
        """Raise VistuneError with a suggestion for the first unknown --option.

        argparse itself reports a missing argument first, which a mistyped option often is.
        """
        for argument in arguments:
            name = argument.partition("=")[0]
            if name == "--":
                return
            if name.startswith("--") and not any(known.startswith(name) for known in self._option_string_actions):
                known = [option for option in self._option_string_actions if option.startswith("--")]
                raise VistuneError(f"unknown option {name} of {self.prog}", fix=did_you_mean(name, known))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = f"unknown {'value' if action.option_strings else 'command'} '{value}'"
            fix = did_you_mean(str(value), map(str, action.choices))
            raise VistuneError(what, where="".join(action.option_strings), fix=fix)


def add_command(commands: Any, name: str, run: Run, summary: str, details: str = "", **options: Any) -> Parser:
    """A new command; `run` gets its arguments, `summary` is its line in the list of commands."""
    description = "\n".join(textwrap.wrap(f"{summary}.", 79)) + (f"\n\n{details}" if details else "")
    parser: Parser = commands.add_parser(name, help=summary, description=description, **options)
    parser.set_defaults(run=run)
    return parser


def add_out(command: Any, default: str | None = None) -> None:
    """--out, the folder to write."""
    known = {"default": default} if default else {"required": True}
    help_ = "Folder to write" + (f" (default: {default})" if default else "")
    command.add_argument("--out", metavar="DIR", help=help_, **known)


def add_overwrite(command: Any) -> None:
    """--overwrite."""
    help_ = "Replace files that are there already and that no such run has written, or another one"
    command.add_argument("--overwrite", action="store_true", help=help_)


def add_seed(command: Any) -> None:
    """--seed."""
    command.add_argument("--seed", type=count, default=0, metavar="N", help="Seed of all random choices (default: 0)")


def add_precision(command: Any) -> None:
    """--dtype and --load-in-4bit, of a local model."""
    command.add_argument(
        "--dtype", type=lambda text: DTYPES.get(text, text), choices=("auto", *DTYPES.values()), default="auto",
        help="dtype of the weights; fp32, bf16 and fp16 are the same (default: auto, bfloat16 on a GPU and float32 "
        "elsewhere)",
    )  # fmt: skip
    command.add_argument(
        "--load-in-4bit", action="store_true", help="Keep the language model's layers in 4 bits (NF4), on a CUDA device"
    )


def count(text: str) -> int:
    """A whole number from 0 up to 10^15."""
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up to 10^15."""
    if not (value := count(text)):
        raise argparse.ArgumentTypeError("0 is not a whole number from 1 up")
    return value


def wrap(text: str, indent: str = "") -> str:
    """Prose with lines that end between words at the terminal's width (80 columns in a pipe); its own lines stay."""
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def is_first_process() -> bool:
    """Whether this is the process that prints; torchrun sets RANK in each of several."""
    return os.environ.get("RANK", "0") == "0"


def announce_loading() -> None:
    """Say on standard error that loading starts, as importing PyTorch takes seconds; silence what transformers prints.

    Progress bars of downloads stay. Of several processes (torchrun) the first one prints.
    """
    if is_first_process():
        print("loading ...", file=sys.stderr, flush=True)
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()  # the line before turns those of downloads off, too
