"""Who is asked: the teacher's options and their reading."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vistune.cli.options import positive_number
from vistune.errors import ClientError

if TYPE_CHECKING:
    from vistune.llm import Client


def add_teacher(command: Any) -> None:
    """A group of options for the teacher."""
    add = command.add_argument_group("teacher").add_argument
    add("--teacher", default="symbolic", metavar="NAME",
        help="who writes: symbolic (by rule; default), openai:MODEL, anthropic:MODEL, batch:MODEL (OpenAI's batches), "
        "local:FOLDER_OR_HUB_ID (in this process), scripted:FILE")  # fmt: skip
    add("--base-url", metavar="URL", help="the server, up to and with /v1 (default: OpenAI's or Anthropic's)")
    add(
        "--key-env",
        metavar="NAME",
        help="the environment variable with the API key (default: OPENAI_API_KEY or ANTHROPIC_API_KEY)",
    )
    add("--header", action="append", default=[], metavar="NAME=VALUE", help="sent along (may be repeated)")
    add("--timeout", type=positive_number, metavar="SECONDS", help="give a request up after so long (default: 600)")


def read_teacher(args: argparse.Namespace) -> Client:
    """The client that the options name; without a key where nobody is asked (--show, --dry-run).

    Raises ClientError for options that do not fit it.
    """
    from vistune.llm import open_client, options_of

    name = args.teacher.partition(":")[0]
    takes = options_of(name)
    given = {
        "base_url": args.base_url, "key_env": args.key_env, "headers": _headers(args.header) or None,
        "timeout": args.timeout,
    }  # fmt: skip
    for option, value in given.items():
        if value is not None and option not in takes:
            what = f"the teacher '{name}' takes no --{_SPELLED.get(option, option)}"
            raise ClientError(what, fix="name a --teacher that does, e.g. --teacher openai:MODEL")
    ours = {"folder": args.out, "asking": not (args.show or args.dry_run)}
    return open_client(args.teacher, **given, **{option: value for option, value in ours.items() if option in takes})


_SPELLED = {"base_url": "base-url", "key_env": "key-env", "headers": "header"}


def _headers(given: list[str]) -> Mapping[str, str]:
    headers = {}
    for number, text in enumerate(given, 1):
        name, sign, value = text.partition("=")
        if not (sign and name):
            # what was typed may hold a key, so it is not repeated
            raise ClientError("not a header", where=f"--header number {number}", fix="--header NAME=VALUE")
        headers[name] = value
    return headers
