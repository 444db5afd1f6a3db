"""Addresses of images: nothing but public addresses of allowed domains is connected to."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from PIL import Image

from chat_server import Server, data_url, serving
from local_server import in_thread
from vistune.errors import DataError
from vistune.serve.jobs import Limits
from vistune.serve.media import MediaFetcher, is_public

IMAGE = Image.effect_noise((30, 20), 60).convert("RGB")


class Target:
    """A server of this machine that serves an image and logs each request."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.port = 0

    async def start(self) -> web.AppRunner:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.log.append(request.path)
            file = io.BytesIO()
            IMAGE.save(file, "PNG")
            content = file.getvalue()
            if request.path == "/redirect":
                return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{self.port}/private"})
            if request.path == "/slow":
                await asyncio.sleep(1)
            if request.path == "/large":
                content = bytes(2**25 + 1)
            if request.path == "/gzip":
                return web.Response(body=gzip.compress(content), headers={"Content-Encoding": "gzip"})
            return web.Response(body=content, content_type="image/png")

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        await web.SockSite(runner, listening).start()
        self.port = listening.getsockname()[1]
        return runner


@pytest.fixture
def target() -> Iterator[Target]:
    with in_thread(Target()) as target:
        yield target


class Local(AbstractResolver):
    """Resolves every name to this machine, as the resolver of a public domain would to that domain's."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": flags}]

    async def close(self) -> None: ...


ALLOWED = ["127.0.0.1", "localhost", "169.254.169.254", "::1", "[::1]", "::ffff:127.0.0.1", "2130706433", "0x7f000001",
           "0177.0.0.1", "127.1", "0", "pictures.example", "0.0.0.0", "127.8.8.8"]  # fmt: skip
ADDRESSES = [
    "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:{port}/", "http://127.8.8.8:{port}/",
    "http://localhost:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://0.0.0.0:{port}/",
    "http://[::ffff:7f00:1]:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://127.1:{port}/",
    "http://0177.0.0.1:{port}/", "http://0:{port}/", "file:///etc/passwd", "FILE:///etc/passwd", "/etc/passwd",
    "etc/passwd", "http://pictures.example\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@pictures.example/",
    "http://pictures.example@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@pictures.example/",
    "http:\\\\127.0.0.1:{port}/", "//127.0.0.1:{port}/", "ftp://localhost:{port}/", "gopher://localhost:{port}/",
    "http://localhost:{port}/\r\nX: y", " http://localhost:{port}/", "http://localhost.:{port}/",
    "http://LOCALHOST:{port}/", "http://ⓛocalhost:{port}/", "http://other.example/", "http:localhost:{port}/", "http://",
    "", "data:,x",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(assistants: dict[str, Path]) -> Iterator[Server]:
    limits = Limits(batch=1, queue=9)
    with serving(assistants["language"], limits, media_domains=frozenset(ALLOWED)) as server:
        yield server


def test_no_private_address_is_connected_to_even_if_it_is_allowed(server: Server, target: Target) -> None:
    for address in ADDRESSES:
        url = address.replace("{port}", str(target.port))
        content = [{"type": "image_url", "image_url": {"url": url}}]
        reply = server.post({"messages": [{"role": "user", "content": content}], "max_tokens": 1})
        assert reply.status_code == 422, address
        for secret in ("passwd", "127.0.0.1", "169.254", "Traceback", str(target.port)):
            assert secret not in reply.text, address
    assert target.log == []


def fetch(target: Target, path: str, **options: Any) -> bytes:
    fetcher = MediaFetcher(["Pictures.example"], Local(), **options)
    return asyncio.run(fetcher.fetch(f"http://pictures.example:{target.port}{path}", "messages.0"))


def test_an_image_of_an_allowed_domain_is_fetched(target: Target) -> None:
    content = fetch(target, "/a/b.png?size=[1]&of=2")
    assert Image.open(io.BytesIO(content)).tobytes() == IMAGE.tobytes()
    assert target.log == ["/a/b.png"]


def test_redirects_are_not_followed(target: Target) -> None:
    with pytest.raises(DataError, match="redirects are not followed"):
        fetch(target, "/redirect")
    assert target.log == ["/redirect"]


def test_size_and_time_are_bounded_and_nothing_is_unpacked(target: Target) -> None:
    with pytest.raises(DataError, match="larger than 32 MiB"):
        fetch(target, "/large")
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(target, "/slow", seconds=0.2)
    assert gzip.decompress(fetch(target, "/gzip"))


def test_a_name_that_changes_its_address_gains_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rebinding(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        # 192.88.99.1 is public, and nothing has it
        address = "192.88.99.1" if len(asked) % 2 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    fetcher = MediaFetcher(["pictures.example"], seconds=0.5)
    for _ in range(2):
        with pytest.raises(DataError, match="could not be fetched"):
            asyncio.run(fetcher.fetch(f"http://pictures.example:{target.port}/", "messages.0"))
    assert asked == ["pictures.example"] * 2
    assert target.log == []


def test_without_domains_nothing_is_fetched(assistants: dict[str, Path], target: Target) -> None:
    with serving(assistants["language"], Limits(batch=1)) as server:
        for url, status in ((f"http://127.0.0.1:{target.port}/", 422), (data_url(IMAGE), 200)):
            content = [{"type": "image_url", "image_url": {"url": url}}]
            reply = server.post({"messages": [{"role": "user", "content": content}], "max_tokens": 1})
            assert reply.status_code == status
    assert target.log == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::", False), ("::1", False),
        ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False),
        ("::127.0.0.1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
