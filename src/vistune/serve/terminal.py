"""Chat with an assistant in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from vistune.data.images import open_image
from vistune.errors import DataError
from vistune.model.assistant import Assistant
from vistune.records import Turn

HELP = "Ask about the image. /image FILE changes the image, /new starts over, /quit ends."


def chat(checkpoint: Path, image: Path | None, max_new_tokens: int = 512) -> None:
    """Read questions from standard input until it ends, and stream the answers; each sees all earlier turns.

    Raises CheckpointError for a checkpoint, and DataError for a first image, that cannot be used.
    """
    if image is not None:
        open_image(image)  # a wrong path is an error before the model is loaded
    console = Console(highlight=False)
    assistant, turns = Assistant.load(checkpoint), list[Turn]()
    if sys.stdin.isatty():
        console.print(f"[dim]{HELP}[/dim]")
    while (line := _read(console)) is not None and line != "/quit":
        command, _, argument = line.partition(" ")
        try:
            if command == "/image":
                path = Path(argument.strip())
                open_image(path)  # for one that cannot be used the current one stays
                image, turns = path, []
                console.print(f"(image: {image})", markup=False)
            elif command == "/new":
                turns = []
                console.print("(starting over)")
            elif command.startswith("/"):
                console.print(HELP)
            elif line:
                question = Turn("user", line)
                pieces = assistant.stream([*turns, question], image, max_new_tokens=max_new_tokens)
                turns += [question, Turn("assistant", _print_pieces(pieces, console))]
        except DataError as error:
            console.print(f"error: {error}", style="red", markup=False)


def _print_pieces(pieces: Iterable[str], console: Console) -> str:
    """Print the pieces of an answer as they come; returns all of it."""
    text = ""
    for piece in pieces:
        console.print(piece, end="", markup=False)
        text += piece
    console.print()
    return text.strip()


def _read(console: Console) -> str | None:
    """The next line, stripped; None at the end of the input."""
    try:
        return console.input("[bold]> [/bold]" if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
