"""Chat in the terminal: questions, images and commands, line by line."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vistune.data.images import data_url, open_image
from vistune.errors import DataError, VistuneError, did_you_mean
from vistune.llm.client import RequestError
from vistune.printable import printable
from vistune.reading import read_bytes
from vistune.scene.english import well_formed
from vistune.serve.models import ChatModel
from vistune.serve.openai_api import ApiError, ChatRequest, read_request
from vistune.storage import atomic_text
from vistune.terminal import Terminal, image_sequence

HELP = """\
/image FILE ...    add images to the next question; without a file: remove them
/retry             answer the last question again
/reset             start over, without images
/save FILE         write the conversation, with its images, as JSON
/load FILE         continue a saved conversation
/temperature X, /top_p X, /top_k N, /seed N, /max_tokens N
                   set a parameter; without a value: the model's own
/help, /quit       Ctrl-C stops an answer, Ctrl-D ends the chat"""
_PARAMETERS = ("temperature", "top_p", "top_k", "seed", "max_tokens")
_LINES = 1000
"""Lines of the history that are kept."""


class Chat:
    """A conversation with a model, in the form of a chat completion's messages."""

    def __init__(self, model: ChatModel, parameters: dict[str, Any], console: Console | None = None) -> None:
        self._model, self._parameters = model, parameters
        self._console = console or Terminal(highlight=False, soft_wrap=True)
        self._messages: list[dict[str, Any]] = []
        self._images: list[str] = []  # data URLs
        self._unanswered = ""
        self._commands: dict[str, Callable[[str], None]] = {
            "image": self._add_images, "retry": self._retry, "reset": self._reset, "save": self._save,
            "load": self._load, "help": self._help,
            **{name: partial(self._set, name) for name in _PARAMETERS},
        }  # fmt: skip

    def handle(self, line: str) -> None:
        """Answer a question or run a command. An error is printed, and the conversation is as before."""
        try:
            if line.startswith("/"):
                name, _, argument = line[1:].partition(" ")
                if name not in self._commands:
                    fix = did_you_mean(name, [*self._commands, "quit"])
                    raise DataError(f"unknown command /{name}", fix=f"{fix} /help lists them")
                self._commands[name](argument.strip())
            elif line:
                self._ask(line)
        except (VistuneError, RequestError, OSError) as error:
            self._console.print(f"error: {printable(str(error))}", style="red", markup=False)

    def add_images(self, paths: Sequence[Path]) -> None:
        """Add images to the next question. Raises DataError, and adds none, if one cannot be used."""
        opened = [open_image(path) for path in paths]
        self._images += map(data_url, paths)
        for path, image in zip(paths, opened, strict=True):
            if self._console.is_terminal and (drawn := image_sequence(image, os.environ)):
                print(drawn, end="")
            self._note(f"(image: {path.name}, {image.width} x {image.height})")

    def complete(self, text: str, state: int) -> str | None:
        """The `state`-th completion of the word `text` at the cursor: a command or a file (readline's protocol)."""
        if text.startswith("/") and "/" not in text[1:] and not Path(text).exists():
            found = [f"/{name} " for name in self._commands if name.startswith(text[1:])]
        else:
            base = Path(text).expanduser()
            folder, start = (base, "") if text.endswith("/") or not text else (base.parent, base.name)
            found = sorted(f"{p}/" if p.is_dir() else f"{p} " for p in folder.glob(f"{start}*"))
        return found[state] if state < len(found) else None

    def _ask(self, question: str) -> None:
        self._unanswered = question
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in self._images]
        content: Any = [*parts, {"type": "text", "text": question}] if parts else question
        messages = [*self._messages, {"role": "user", "content": content}]
        pieces: list[str] = []
        try:
            asyncio.run(self._print_answer(messages, pieces))
        except KeyboardInterrupt:
            self._note("\n(stopped)")
        if answer := "".join(pieces).strip():
            self._messages = [*messages, {"role": "assistant", "content": answer}]
            self._images, self._unanswered = [], ""

    async def _print_answer(self, messages: list[dict[str, Any]], pieces: list[str]) -> None:
        length = 0
        async with aclosing(self._model.stream({"messages": messages, **self._parameters})) as answers:
            async for answer in answers:
                pieces.append(answer.text[length:])
                length = len(answer.text)
                print(printable(pieces[-1]), end="", flush=True)
        print()

    def _add_images(self, argument: str) -> None:
        if not argument:
            self._images = []
            return self._note("(no image for the next question)")
        whole = Path(argument).expanduser()
        return self.add_images([whole] if whole.exists() else [Path(one).expanduser() for one in _words(argument)])

    def _retry(self, _: str) -> None:
        question = self._unanswered
        if not question:
            if not self._messages:
                raise DataError("there is no question yet", fix="write one first")
            *self._messages, asked, _answer = self._messages
            parts = _parts(asked)
            question = "\n".join(part["text"] for part in parts if part["type"] == "text")
            self._images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        self._ask(question)

    def _reset(self, _: str) -> None:
        self._messages, self._images, self._unanswered = [], [], ""
        self._note("(starting over)")

    def _save(self, argument: str) -> None:
        path = _file(argument, "/save")
        if path.exists():
            _read(path)  # nothing but a conversation is overwritten
        with atomic_text(path) as file:
            json.dump({**self._parameters, "messages": self._messages}, file, ensure_ascii=False, indent=1)
        self._note(f"(saved: {path})")

    def _load(self, argument: str) -> None:
        path = _file(argument, "/load")
        self._messages, self._parameters = _read(path)
        self._images, self._unanswered = [], ""
        for message in self._messages:
            lines = [part.get("text", "(image)") for part in _parts(message)]
            mark = "you: " if message["role"] == "user" else ""
            self._console.print(mark + printable("\n".join(lines)), markup=False)

    def _set(self, name: str, value: str) -> None:
        changed = {key: old for key, old in self._parameters.items() if key != name}
        if value:
            with suppress(ValueError, RecursionError):  # what is no number is an error below
                changed[name] = json.loads(value)
            changed.setdefault(name, value)
        _request({"messages": [{"role": "user", "content": ""}], **changed})
        self._parameters = changed
        self._note(f"({name}: {value or 'as the model has it'})")

    def _help(self, _: str) -> None:
        self._console.print(HELP, markup=False)
        values = ", ".join(f"{name} {value}" for name, value in self._parameters.items())
        self._note(f"({self._model.name}; {values or 'no parameters set'})")

    def _note(self, text: str) -> None:
        self._console.print(printable(text), style="dim", markup=False)


def chat(model: ChatModel, images: Sequence[Path], parameters: dict[str, Any]) -> None:
    """Read questions and commands from standard input until it ends. Raises DataError for a first image."""
    conversation = Chat(model, parameters)
    conversation.add_images(images)
    interactive = sys.stdin.isatty()
    with _line_editing(conversation.complete) if interactive else nullcontext():
        if interactive:
            print(f"{printable(model.name)}: ask about an image. /help lists the commands.")
        while (line := _line("> " if interactive else "")) not in ("/quit", "/exit", None):
            conversation.handle(str(line))


def _line(prompt: str) -> str | None:
    """The next line, stripped; None at the end of the input. Ctrl-C empties the line."""
    try:
        return well_formed(input(prompt)).strip()
    except UnicodeDecodeError:
        print("error: this line is not text in UTF-8")
        return ""
    except EOFError:
        if prompt:
            print()
        return None
    except KeyboardInterrupt:
        print()
        return ""


@contextmanager
def _line_editing(complete: Callable[[str, int], str | None]) -> Iterator[None]:
    """Line editing and completion, with a history that is kept for the next chat."""
    import readline  # changes how this process reads lines

    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    history = state / "vistune" / "chat_history"
    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_LINES)
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with suppress(OSError):  # a home that cannot be written
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch(mode=0o600)
            readline.write_history_file(history)


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _request(body: dict[str, Any], where: str = "", fix: str = "correct it: /help lists the parameters") -> ChatRequest:
    try:
        return read_request(json.dumps(body).encode())
    except ApiError as error:
        raise DataError(error.what, where=where, fix=fix) from None


def _file(argument: str, command: str) -> Path:
    if not argument:
        raise DataError(f"{command} needs a file", fix=f"{command} FILE")
    return Path(argument).expanduser()


def _words(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError:  # an open quote
        return argument.split()


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages and parameters of a saved conversation. Raises DataError."""
    try:
        parameters = dict(json.loads(read_bytes(path, DataError)))
        messages = parameters.pop("messages")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            "this is not a saved conversation", where=str(path), fix="name a conversation that /save wrote"
        ) from None
    request = _request({**parameters, "messages": messages}, str(path), "name a conversation that /save wrote")
    if [message.role for message in request.messages[-2:]] != ["user", "assistant"]:
        raise DataError(
            "the conversation does not end with an answer", where=str(path), fix="name a conversation that /save wrote"
        )
    return messages, parameters
