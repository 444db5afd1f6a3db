"""`vistune chat`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_precision, announce_loading, positive
from vistune.errors import VistuneError
from vistune.printable import print_line


def add_chat(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "chat", _chat, "Chat with an assistant about images")
    add = command.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help="Folder of the assistant, or the hub id of a LLaVA")
    add("--image", type=Path, action="append", default=[], metavar="FILE",
        help="Image to talk about; may be repeated")  # fmt: skip
    add("--base-url", metavar="URL", help="OpenAI-compatible server to chat with instead, up to and including /v1")
    add("--model", metavar="NAME", help="Model of that server (default: the only one)")
    add("--key-env", metavar="NAME", help="Environment variable that holds its API key (default: OPENAI_API_KEY)")
    add("--temperature", type=float, metavar="X", help="Sampling temperature (default: the model's own)")
    add("--max-new-tokens", type=positive, default=512, metavar="N",
        help="Maximum length of an answer in tokens (default: 512)")  # fmt: skip
    add_precision(command)


def _chat(args: argparse.Namespace) -> None:
    if (args.checkpoint is None) == (args.base_url is None):
        raise VistuneError("chat needs either a checkpoint or a server", fix="give CHECKPOINT or --base-url URL")
    announce_loading()
    from vistune.data.images import open_image
    from vistune.model.familiar import known_data, note_on
    from vistune.serve.models import RemoteModel, open_local
    from vistune.serve.terminal import chat

    for image in args.image:
        open_image(image)  # a wrong path is an error before the model is loaded
    parameters = {"max_tokens": args.max_new_tokens}
    if args.temperature is not None:
        parameters["temperature"] = args.temperature
    if args.base_url is not None:
        chat(RemoteModel(args.base_url, args.model, args.key_env), args.image, parameters)
        return
    if note := note_on(known_data(args.checkpoint), [image.parent for image in args.image] or [Path()]):
        print_line(note, error=True)
    with open_local(args.checkpoint, args.dtype, load_in_4bit=args.load_in_4bit) as model:
        chat(model, args.image, parameters)
