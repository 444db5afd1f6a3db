"""`vistune chat`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, announce_loading, count


def add_chat(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "chat", _chat, "Chat with an assistant about an image")
    add = command.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="Folder of the assistant")
    add("--image", type=Path, metavar="FILE", help="Image to talk about")
    add("--max-new-tokens", type=count, default=512, metavar="N",
        help="Maximum length of an answer in tokens (default: 512)")  # fmt: skip


def _chat(args: argparse.Namespace) -> None:
    announce_loading()
    from vistune.serve.terminal import chat

    chat(args.checkpoint, args.image, args.max_new_tokens)
