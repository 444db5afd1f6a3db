"""`vistune chat` in a pseudo-terminal and in a pipe, on a checkpoint and on servers."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from PIL import Image

import vistune
from assembling import assemble
from local_server import in_thread
from vistune import Turn
from vistune.cli import main
from vistune.model.checkpoint import save_checkpoint
from vistune.printable import printable
from vistune.terminal import image_sequence

COMMAND = [sys.executable, "-m", "vistune.cli", "chat"]


@pytest.fixture(scope="module")
def checkpoint(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assistant whose answers end by their length only."""
    folder = tmp_path_factory.mktemp("chat") / "tiny"
    model, processor = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    with torch.no_grad():
        model.lm_head.weight[model.generation_config.eos_token_id] = 0
    model.config.text_config.max_position_embeddings = 8192
    save_checkpoint(model, processor, folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{color} one.png" for color in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (40, 30), path.name.split()[0]).save(path)
    return paths


class Terminal:
    """A process of `vistune chat` in a pseudo-terminal."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        self._screen, inside = pty.openpty()
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TERM": "dumb", "XDG_STATE_HOME": str(home)}
        self._process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(inside, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(inside)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def read(self, until: str) -> str:
        """What is printed up to a text."""
        seen, end = "", time.monotonic() + 120
        while not seen or until not in seen:
            assert select.select([self._screen], [], [], end - time.monotonic())[0], seen
            seen += os.read(self._screen, 4096).decode(errors="replace")
        return seen.replace("\r\n", "\n")

    def say(self, line: str) -> str:
        """What is printed after a line, up to the next prompt."""
        self.type(f"{line}\n")
        return self.read("\n> ").removeprefix(f"{line}\n").removesuffix("\n> ")

    def wait(self) -> int:
        return self._process.wait(timeout=60)


def test_a_chat_in_a_terminal(checkpoint: Path, images: list[Path], tmp_path: Path) -> None:
    assistant = vistune.load(checkpoint)
    saved = tmp_path / "chat.json"
    with Terminal([str(checkpoint), "--max-new-tokens", "12"], tmp_path) as terminal:
        assert "tiny: ask about an image." in terminal.read("> ")
        assert "(image: red one.png, 40 x 30)" in terminal.say(f"/image {images[0]}")
        assert "(image: blue one.png, 40 x 30)" in terminal.say(f"/image '{images[1]}'")
        first = terminal.say("how many dogs")
        answer = assistant.chat(images, "how many dogs", max_new_tokens=12)
        assert first.strip() == printable(answer)
        second = terminal.say("is there a cat")
        history = [Turn("user", "how many dogs"), Turn("assistant", answer)]
        assert second.strip() == printable(assistant.chat(images, "is there a cat", history, max_new_tokens=12))
        assert terminal.say("/retry").strip() == second.strip()
        assert "(saved:" in terminal.say(f"/save {saved}")

        terminal.say("/max_tokens 4000")
        terminal.type("tell me more\n")
        terminal.read("more\r\n")
        terminal.read("")  # the answer begins
        terminal.type("\x03")
        assert "(stopped)" in terminal.read("\n> ")
        assert "error: unknown command /savee" in terminal.say("/savee")

        terminal.say("/reset")
        loaded = terminal.say(f"/load {saved}")
        assert loaded.count("(image)") == 2
        assert loaded.strip().endswith(second.strip())
        assert terminal.say("/retry").strip() == second.strip()  # with the saved limit of 12 tokens
        terminal.type("\x04")
        assert terminal.wait() == 0
    history_file = tmp_path / "vistune/chat_history"
    assert "how many dogs" in history_file.read_text()
    assert history_file.stat().st_mode & 0o077 == 0


def test_lines_of_a_pipe_are_answered_as_by_the_api(checkpoint: Path, images: list[Path]) -> None:
    lines = ["how many dogs", "", "/image nowhere.png", "/temperature 9", "/save", "/quit", "not answered"]
    result = subprocess.run(
        [*COMMAND, str(checkpoint), "--image", str(images[0]), "--max-new-tokens", "12"],
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "loading ...\n")
    answer = vistune.load(checkpoint).chat(images[0], "how many dogs", max_new_tokens=12)
    assert [line for line in result.stdout.splitlines() if not line.startswith("  fix: ")] == [
        "(image: red one.png, 40 x 30)",
        *printable(answer).splitlines(),
        "error: nowhere.png: there is no such image",
        "error: temperature: Input should be less than or equal to 2",
        "error: /save needs a file",
    ]


def test_a_wrong_image_checkpoint_or_option_is_one_message(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, named in (
        ([str(checkpoint), "--image", "none.jpg"], "none.jpg"),
        ([str(tmp_path / "nothing")], "nothing"),
        ([], "give CHECKPOINT or --base-url URL"),
        ([str(checkpoint), "--base-url", "http://127.0.0.1:9/v1"], "either a checkpoint or a server"),
    ):
        code = main(["chat", *arguments])
        printed = capsys.readouterr()
        assert (code, printed.out) == (2, "")
        assert named in printed.err


class _Api:
    """Streams the given pieces; records the requests."""

    def __init__(self, pieces: list[Any], *, streams: bool = True) -> None:
        self.pieces, self.streams, self.requests = pieces, streams, list[dict[str, Any]]()
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "seer"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({**await request.json(), "key": request.headers.get("Authorization")})
        if not self.streams:
            message = {"role": "assistant", "content": "".join(self.pieces)}
            return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in self.pieces:
            chunk = piece if isinstance(piece, dict) else {"choices": [{"index": 0, "delta": {"content": piece}}]}
            await response.write(b": a comment\n\ndata: " + json.dumps(chunk).encode() + b"\n\n")
            await asyncio.sleep(0)
        await response.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')
        return response


def run(url: str, lines: list[str], *options: str) -> list[str]:
    """The lines that a chat with a server prints."""
    result = subprocess.run(
        [*COMMAND, "--base-url", url, *options], input="".join(f"{line}\n" for line in lines), capture_output=True,
        text=True, env=os.environ | {"OPENAI_API_KEY": "sk-secret"}, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_server_streams_its_answers(images: list[Path]) -> None:
    with in_thread(_Api(["two", " \x1b[2Jdogs\x9b", None, "犬\u202e"])) as api:
        lines = ["how many?", f"/image {images[1]}", "/image", "/top_p 0.5", "sure?"]
        shown = run(api.url, lines, "--image", str(images[0]), "--temperature", "0.5")
    assert shown[1] == shown[5] == "two \ufffd[2Jdogs\ufffd犬\ufffd"
    first, second = api.requests
    assert (first["model"], first["stream"], first["max_tokens"], first["temperature"]) == ("seer", True, 512, 0.5)
    assert first["key"] == "Bearer sk-secret"
    (image, text) = first["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "how many?"}
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][2]["content"] == "sure?"
    assert second["top_p"] == 0.5


def test_a_servers_error_and_one_that_does_not_stream() -> None:
    with in_thread(_Api(["begun", {"error": {"message": "out of memory", "code": 500}}])) as api:
        shown = run(api.url, ["hello", "/retry"], "--model", "other")
    assert [line for line in shown if "out of memory" in line]
    assert [request["messages"] for request in api.requests] == [[{"role": "user", "content": "hello"}]] * 2
    with in_thread(_Api(["all at once"], streams=False)) as api:
        assert run(api.url, ["hello"]) == ["all at once"]


def test_only_a_saved_conversation_is_overwritten_or_loaded(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    (tmp_path / "half.json").write_text('{"messages": [{"role": "user", "content": "a"}]}')
    with in_thread(_Api(["yes"])) as api:
        files = ["notes.txt", "half.json"]
        shown = run(api.url, ["hello", *(f"/{do} {tmp_path / file}" for file in files for do in ("save", "load"))])
        again = run(api.url, ["hello", f"/save {tmp_path / 'a.json'}", f"/save {tmp_path / 'a.json'}"])
    assert shown[0] == "yes"
    assert sum("this is not a saved conversation" in line for line in shown) == 2
    assert sum("does not end with an answer" in line for line in shown) == 2
    assert notes.read_text() == "mine"
    assert again[1] == again[2] == f"(saved: {tmp_path / 'a.json'})"


def test_images_are_drawn_where_the_terminals_protocol_is_known() -> None:
    image = Image.new("RGB", (1000, 900), "red")
    kitty = image_sequence(image, {"TERM_PROGRAM": "ghostty"})
    assert re.match(r"\x1b_Ga=T,f=100,r=10,m=[01];", kitty)
    assert kitty.endswith("\x1b\\\n")
    assert "\x1b]1337;File=inline=1" in image_sequence(image, {"TERM_PROGRAM": "iTerm.app"})
    assert image_sequence(image, {"TERM": "xterm-256color"}) == ""
    assert image_sequence(image, {"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/1"}) == ""


def test_printable_keeps_scripts_and_emoji() -> None:
    text = "a\tb\n犬 é 👩‍👧 ﷺ \u00a0"
    assert printable(text) == text
    assert printable("a\r\nb\x1b]0;title\a") == "a\nb\ufffd]0;title\ufffd"
