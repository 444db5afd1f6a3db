"""The command line: one file a command. Commands import PyTorch only when they run."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from importlib.metadata import version

from vistune.cli.ablate import add_ablate
from vistune.cli.chat import add_chat
from vistune.cli.demo import add_demo, add_demo_data
from vistune.cli.env import add_env
from vistune.cli.eval import add_eval
from vistune.cli.export import add_export
from vistune.cli.generate import add_generate
from vistune.cli.import_ import add_import
from vistune.cli.init import add_init
from vistune.cli.merge import add_merge
from vistune.cli.parsing import Parser, wrap
from vistune.cli.recipes import add_recipes
from vistune.cli.report import add_report
from vistune.cli.rescore import add_rescore
from vistune.cli.scienceqa import add_scienceqa
from vistune.cli.serve import add_serve
from vistune.cli.split import add_split
from vistune.cli.train import add_train
from vistune.cli.view import add_view
from vistune.errors import Stopped, VistuneError
from vistune.printable import print_line
from vistune.storage import explain

_DESCRIPTION = """\
Visual instruction tuning: from annotated images to an assistant that talks
about them.

  annotations ─ generate ─> conversations ─ train ─> assistant ─ eval ─> scores
                                                         └─ chat, serve ─> answers
"""
_EPILOG = """\
Start with:  vistune demo
Then give your own annotated images to `vistune generate`.
`vistune COMMAND --help` explains a command.
Tab completion:  eval "$(register-python-argcomplete vistune)" (in the shell)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for a user's error, 74 for a full disk, 130 when interrupted.

    A training ended by a signal gives 128 and the signal's number: 130 for SIGINT, 143 for SIGTERM. 141, that of
    SIGPIPE, means that the reader of the output has closed it.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        if _is_output_open():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except VistuneError as error:
        text = f"error: {error}"
        print(wrap(text, "  ") if sys.stderr.isatty() else text, file=sys.stderr)
        return error.exit_code
    except OSError as error:  # no space left, no permission, not a folder …
        found = explain(error)
        print_line(f"error: {found}", error=True)
        return found.exit_code
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line, and those of the commands by name, in the order of the flow."""
    parser = Parser(prog="vistune", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"vistune {version('vistune')}", help="Print the version"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        add_demo, add_demo_data, add_generate, add_view, add_import, add_scienceqa, add_split, add_init, add_train,
        add_merge, add_eval, add_rescore, add_report, add_ablate, add_chat, add_serve, add_export, add_recipes,
        add_env,
    ):  # fmt: skip
        add(commands)
    return parser, commands.choices


def _run(arguments: Sequence[str]) -> int:
    parser, commands = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        import argcomplete

        argcomplete.autocomplete(parser)
    if not arguments:
        parser.print_help()
        return 0
    if command := commands.get(arguments[0]):
        command.check_options(arguments[1:])
    args = parser.parse_args(arguments)
    args.run(args)
    sys.stdout.flush()
    return 0


def _is_output_open() -> bool:
    """Whether the other end of standard output is still open; after `| head` it is not."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are always reported
    return not poll.poll(0)
