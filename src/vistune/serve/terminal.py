"""Chat with an assistant in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
    session = Session(Assistant.load(checkpoint), image, max_new_tokens)
    if sys.stdin.isatty():
        console.print(f"[dim]{HELP}[/dim]")
    while (line := _read(console)) is not None and line != "/quit":
        if not line:
            continue
        try:
            for piece in session.respond(line):
                console.print(piece, end="", markup=False)
            console.print()
        except DataError as error:
            console.print(f"error: {error}", style="red", markup=False)


class Session:
    """A conversation: the image and the turns so far."""

    def __init__(self, assistant: Assistant, image: Path | None, max_new_tokens: int) -> None:
        self.assistant, self.image, self.max_new_tokens = assistant, image, max_new_tokens
        self.turns: list[Turn] = []

    def respond(self, line: str) -> Iterator[str]:
        """The pieces of the answer to a question, or a note of what a command like `/image FILE` did.

        Raises DataError for an image that cannot be used; the current one stays.
        """
        command, _, argument = line.partition(" ")
        if command == "/image":
            path = Path(argument.strip())
            open_image(path)
            self.image, self.turns = path, []
            yield f"(image: {path})"
        elif command == "/new":
            self.turns = []
            yield "(starting over)"
        elif command.startswith("/"):
            yield HELP
        else:
            yield from self._answer(line)

    def _answer(self, question: str) -> Iterator[str]:
        turns = [*self.turns, Turn("user", question)]
        pieces = []
        for piece in self.assistant.stream(turns, self.image, max_new_tokens=self.max_new_tokens):
            pieces.append(piece)
            yield piece
        self.turns = [*turns, Turn("assistant", "".join(pieces).strip())]


def _read(console: Console) -> str | None:
    """The next line, stripped; None at the end of the input."""
    try:
        return console.input("[bold]> [/bold]" if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
