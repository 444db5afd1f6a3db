"""Whatever a server answers: a reply or an error of the request, in bounded memory; and what is no URL of one."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from aiohttp import web

from local_server import in_thread
from spoiling import spoilt
from vistune.errors import ClientError
from vistune.llm import open_client
from vistune.llm.client import Request, RequestError
from vistune.llm.images import ImageFile
from vistune.records import Turn

REPLY = {
    "model": "m", "choices": [{"message": {"role": "assistant", "content": "A dog."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}  # fmt: skip
MESSAGE = {
    "model": "m", "content": [{"type": "text", "text": "A dog."}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}  # fmt: skip
REQUEST = Request("", (Turn("user", "What?"),), max_tokens=9)
BOMB = gzip.compress(b" " * 2**26)


class Hostile:
    """Answers each request with `body`, or with bytes without end."""

    def __init__(self) -> None:
        self.url, self.body, self.headers = "", b"", dict[str, str]()
        self.endless = False
        self.sent = 0

    async def start(self) -> web.AppRunner:
        app = web.Application()
        for path in ("/v1/chat/completions", "/v1/messages"):
            app.router.add_post(path, self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=self.headers)
        await response.prepare(request)
        await response.write(self.body)
        while self.endless:
            await response.write(b" " * 2**16)
            self.sent += 2**16
        return response


def ask(server: Hostile, provider: str = "openai") -> str:
    async def once() -> str:
        async with open_client(f"{provider}:m", base_url=server.url) as client:
            return (await client.complete(REQUEST)).text

    return asyncio.run(once())


def test_bodies_without_end_and_bombs_are_given_up() -> None:
    with in_thread(Hostile()) as server:
        server.endless = True
        with pytest.raises(RequestError, match="larger than 16 MiB"):
            ask(server)
        assert server.sent < 2**26
        server.endless = False
        for encoding, body in (("gzip", BOMB), ("deflate", zlib.compress(b" " * 2**26))):
            server.headers, server.body = {"Content-Encoding": encoding}, body
            with pytest.raises(RequestError, match="larger than 16 MiB"):
                ask(server)
        server.body = b"no gzip"
        with pytest.raises(RequestError, match="the compressed body is broken"):
            ask(server)
        server.headers = {"Content-Encoding": "br\x9b"}
        with pytest.raises(RequestError, match="compressed as br"):
            ask(server)


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "deflate"])
def test_compressed_replies_are_read(encoding: str) -> None:
    body = json.dumps(REPLY).encode()
    with in_thread(Hostile()) as server:
        server.headers = {"Content-Encoding": encoding} if encoding else {}
        server.body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(body)
        assert ask(server) == "A dog."


@pytest.mark.parametrize(("provider", "reply"), [("openai", REPLY), ("anthropic", MESSAGE)])
def test_replies_of_any_form_are_replies_or_errors_of_the_request(provider: str, reply: dict[str, Any]) -> None:
    draw, outcomes = random.Random(0), set()
    with in_thread(Hostile()) as server:
        for _ in range(150):
            server.body = spoilt(json.dumps(reply).encode(), draw)
            try:
                outcomes.add(type(ask(server, provider)))
            except (RequestError, ClientError) as error:
                outcomes.add(type(error))
        server.body = b"[" * 200_000
        with pytest.raises(RequestError, match="not_json"):
            ask(server)
    assert {str, RequestError} <= outcomes


@pytest.mark.parametrize(
    "url", ["http://localhost:99999/v1", "http://[::1/v1", "http://user:pa/ss@localhost/v1", "x:y"]
)
@pytest.mark.parametrize("kind", ["openai", "anthropic", "batch"])
def test_what_is_no_base_url_is_an_error_that_repeats_no_secret(kind: str, url: str) -> None:
    with pytest.raises(ClientError, match=r"URL") as caught:
        open_client(f"{kind}:m", base_url=url)
    assert "'pa" not in str(caught.value)
    assert caught.value.fix


def test_large_images_are_decoded_one_after_the_other(tmp_path: Path) -> None:
    """A client reads the images of several requests at the same time; large ones take hundreds of megabytes each."""
    at_once, most = 0, dict[int, int]()

    class Image(ImageFile):
        def data_url(self) -> str:
            nonlocal at_once
            at_once += 1
            most[self.width] = max(most.get(self.width, 0), at_once)
            sleep(0.05)
            at_once -= 1
            return "data:image/png;base64,"

    async def ask_together(url: str, width: int) -> None:
        requests = [
            Request("", REQUEST.messages, images=(Image(tmp_path, str(n), 512, width, 8000),)) for n in range(4)
        ]
        async with open_client("openai:m", base_url=url) as client:
            await asyncio.gather(*(client.complete(one) for one in requests))

    with in_thread(Hostile()) as server:
        server.body = json.dumps(REPLY).encode()
        for width in (0, 8000, 10):
            asyncio.run(ask_together(server.url, width))
    assert (most[0], most[8000]) == (1, 1)
    assert most[10] > 1
