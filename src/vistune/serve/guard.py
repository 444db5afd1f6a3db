"""Who may use the server and how much of it: the key, the host name, requests in flight, and the body's size."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vistune.errors import VistuneError
from vistune.serve.openai_api import ApiError

_BODY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the server allows.

    `api_key` None lets everybody in, `hosts` None accepts every Host header. `body` is the largest request in bytes.
    """

    name: str
    api_key: str | None = None
    hosts: frozenset[str] | None = None
    images: int = 8
    body: int = 32 * 2**20


class Guard:
    """Refuses requests without the key, for another host name, or beyond the number in flight, before any is read."""

    def __init__(self, app: ASGIApp, options: ServerOptions, most: int, requests: Counter[tuple[str, int]]) -> None:
        self._app, self._options, self._most, self._requests, self._in_flight = app, options, most, requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] == "/health"):
            return await self._app(scope, receive, send)
        error = self._refusal(dict(scope["headers"]))
        if scope["type"] != "http":  # a websocket, of which there are none yet
            error = error or ApiError(404, "there is no such route")

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = getattr(scope.get("route"), "path", "other")
                self._requests[known, message["status"]] += 1
            await send(message)

        self._in_flight += 1
        try:
            if error is not None:
                return await respond(error)(scope, receive, counted)
            return await self._app(scope, receive, counted)
        finally:
            self._in_flight -= 1

    def _refusal(self, headers: dict[bytes, bytes]) -> ApiError | None:
        key, hosts = self._options.api_key, self._options.hosts
        if key is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), key.encode()):
                return ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        # a page of another site can reach a server without a key under a name that its own DNS resolves to 127.0.0.1
        if hosts is not None and _host_name(headers.get(b"host", b"").decode("latin-1")) not in hosts:
            return ApiError(403, "the Host header names another host", code="wrong_host")
        if self._in_flight >= self._most:
            return ApiError(429, "too many requests are in flight, try again later", code="queue_full")
        return None


async def read_body(http: Request, most: int) -> bytes:
    """The body. What is too large is read to its end but not kept, so that the client reads the error."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # other types can be sent by any site's page without a question to this server
        raise ApiError(415, "the Content-Type must be application/json", code="unsupported_media_type")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in http.stream():
                size += len(chunk)
                if size <= most:
                    chunks.append(chunk)
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", code="timeout") from None
    if size > most:
        raise ApiError(413, f"the body is larger than {most / 2**20:g} MiB", code="request_too_large")
    return b"".join(chunks)


def respond(error: ApiError) -> JSONResponse:
    """The error as a response."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
    return JSONResponse(error.body, error.status, headers.get(error.status))


def _host_name(header: str) -> str:
    """The host of a Host header, without its port."""
    return header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0].lower()


def check_address(host: str, api_key: str | None, insecure: bool) -> frozenset[str] | None:
    """The host names that requests may use, None for any. Raises VistuneError for an open server without a key."""
    names = {"localhost"}
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            names.add(host)
    if host in names:
        return None if api_key or insecure else frozenset({"localhost", "127.0.0.1", "::1", host})
    if api_key or insecure:
        return None
    what = f"without an API key everybody who reaches {host} could use the model"
    raise VistuneError(what, where="--host", fix="add --api-key-env, or --insecure if this is what you want")
