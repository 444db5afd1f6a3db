"""Keys, hosts, origins and limits stand before every route of a real server, those of a page included."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import openai
import pytest
from fastapi import Body, FastAPI, Request

from chat_server import KEY, Server, serving, wait
from vistune.serve.jobs import Limits
from vistune.serve.web.mount import without_echo

BEARER = {"Authorization": f"Bearer {KEY}"}


def simple(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "yes"}], "max_tokens": 3} | fields


def page(app: FastAPI, _: object) -> None:
    """A page that reads what it gets and fails in its own words."""
    inner = FastAPI()

    @inner.get("/")
    async def look() -> str:
        return "the page"

    @inner.post("/echo")
    async def echo(number: int, request: Request) -> int:
        return number + len(await request.body())

    @inner.post("/typed")
    async def typed(number: Annotated[int, Body()]) -> int:
        return number

    @inner.post("/broken")
    async def broken() -> None:
        raise ValueError("secret")

    app.router.default = partial(without_echo, inner)


@pytest.fixture(scope="module")
def server(assistants: dict[str, Path]) -> Iterator[Server]:
    with serving(assistants["language"], Limits(batch=4, queue=20), page=page, body=2**16) as server:
        yield server


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_only_health_is_open(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    for path in ("/", "/v1/models", "/metrics", "/v1/models/tiny", "/docs", "/health/", "//health", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
            reply = httpx.get(f"{server.url}{path}", headers=headers)
            assert reply.status_code == 401, path
            assert reply.json()["error"]["code"] == "invalid_api_key"
            assert reply.headers.get_list("www-authenticate")[1] == "Bearer"
    assert server.post(simple(), Authorization="Bearer").status_code == 401
    assert [model.id for model in server.client.models.list()] == ["tiny"]
    assert server.client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("other")


def test_a_browser_logs_in_with_the_key_as_password(server: Server) -> None:
    reply = httpx.get(f"{server.url}/")
    assert reply.status_code == 401
    assert reply.headers.get_list("www-authenticate")[0].startswith("Basic realm=")
    assert httpx.get(f"{server.url}/", headers=basic(KEY)).json() == "the page"
    for headers in (basic("wrong"), basic(""), {"Authorization": "Basic !"}, {"Authorization": "Basic"}):
        assert httpx.get(f"{server.url}/", headers=headers).status_code == 401


def test_pages_of_other_sites_are_refused_though_the_browser_sends_the_password(server: Server) -> None:
    for origin, status in (("https://other.example", 403), ("null", 403), (server.url, 200)):
        reply = httpx.post(f"{server.url}/echo?number=1", headers=basic(KEY) | {"Origin": origin})
        assert reply.status_code == status, origin
    assert server.post(simple(), Origin="https://other.example").status_code == 200  # it has the key itself


def test_a_page_s_errors_repeat_nothing(server: Server) -> None:
    secret = "secret" * 100
    for path in (f"/echo?number={secret}", f"/{secret}", "/echo", "/broken"):
        reply = httpx.post(f"{server.url}{path}", headers=BEARER, content=b"x")
        assert reply.status_code in (400, 404, 405, 422)
        assert set(reply.json()) == {"error"}
        assert "secret" not in reply.text
    for body in (b'"\\ud800"', b'"secret"', b"{", b"\xff"):
        reply = httpx.post(f"{server.url}/typed", headers=BEARER | {"Content-Type": "application/json"}, content=body)
        assert reply.status_code in (400, 422), body
        assert set(reply.json()) == {"error"}


def test_bodies_are_bounded_for_every_route(server: Server) -> None:
    large = b"x" * (2**16 + 1)
    for path in ("/v1/chat/completions", "/echo?number=1", "/nothing"):
        headers = BEARER | {"Content-Type": "application/json"}
        assert httpx.post(f"{server.url}{path}", headers=headers, content=large).status_code == 413
        status = httpx.post(f"{server.url}{path}", headers=headers, content=iter([large])).status_code  # chunked
        assert status == (413 if path.startswith("/v1") else 411)
    # a client that is refused while it sends its body reads the answer
    assert httpx.post(f"{server.url}/echo", content=b"x" * 2**24).status_code == 401


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_its_answer(server: Server, stream: bool) -> None:
    before = server.engine.counters.cancelled
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(simple(max_tokens=400, stream=stream, n=4)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        wait(lambda: any(server.engine.load_now))
    wait(lambda: not any(server.engine.load_now))
    assert server.engine.counters.cancelled == before + 4


def test_without_a_key_only_this_machine_s_names_are_served(assistants: dict[str, Path]) -> None:
    hosts = frozenset({"localhost", "127.0.0.1"})
    with serving(assistants["language"], Limits(batch=1, queue=0), api_key=None, hosts=hosts) as server:
        assert server.post(simple()).status_code == 200
        assert server.post(simple(), Host="localhost:1").status_code == 200
        assert server.post(simple(), Host="rebound.example").status_code == 403
