"""Who may use the server and how much of it: key, host name, origin, requests in flight, size of the body."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
from collections import Counter
from contextlib import suppress

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vistune.errors import VistuneError
from vistune.serve.openai_api import ApiError
from vistune.serve.service import ServerOptions

_BODY_SECONDS = 30


class Guard:
    """Refuses requests without the key, from other sites' pages, too large, or beyond the number in flight.

    It stands before every route, those of the page included.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions, most: int, requests: Counter[tuple[str, int]]) -> None:
        self._app, self._options, self._most, self._requests, self._in_flight = app, options, most, requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] == "/health"):
            return await self._app(scope, receive, send)
        error = self._refusal(scope, dict(scope["headers"]))
        if scope["type"] != "http":  # a websocket, of which there are none
            return await respond(error or ApiError(404, "there is no such route"))(scope, receive, send)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = getattr(scope.get("route"), "path", "other")
                self._requests[known, message["status"]] += 1
            await send(message)

        if error is not None:
            await _drain(receive)
            return await respond(error)(scope, receive, counted)
        has_body = scope["method"] != "GET"  # a page's streams are GET requests that stay open
        self._in_flight += has_body
        try:
            return await self._app(scope, receive, counted)
        finally:
            self._in_flight -= has_body

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> ApiError | None:
        key, hosts, host = self._options.api_key, self._options.hosts, headers.get(b"host", b"").decode("latin-1")
        scheme, given = _credentials(headers.get(b"authorization", b""))
        if key is not None and not hmac.compare_digest(given, key.encode()):
            return ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        # a page of another site can reach a server without a key under a name that its own DNS resolves to 127.0.0.1
        if hosts is not None and _host_name(host) not in hosts:
            return ApiError(403, "the Host header names another host", code="wrong_host")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and (key is None or scheme != b"bearer") and origin.partition("://")[2] != host:
            return ApiError(403, "pages of other sites may not use this server", code="wrong_origin")
        if int(headers.get(b"content-length", b"0")) > self._options.body:
            return too_large(self._options.body)
        if b"transfer-encoding" in headers and not scope["path"].startswith("/v1/"):
            return ApiError(411, "the Content-Length header is missing", code="length_required")
        if self._in_flight >= self._most:
            return ApiError(429, "too many requests are in flight, try again later", code="queue_full")
        return None


def _credentials(header: bytes) -> tuple[bytes, bytes]:
    """The scheme in small letters, and the key: a bearer token, or the password of a browser's own login (Basic)."""
    scheme, _, value = header.partition(b" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == b"bearer":
        return scheme, value
    with suppress(binascii.Error):
        if scheme == b"basic":
            return scheme, base64.b64decode(value, validate=True).partition(b":")[2]
    return scheme, b""


async def _drain(receive: Receive) -> None:
    """Read the body of a request that is refused, so that the client, which is sending it, reads the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while (await receive()).get("more_body"):
                pass


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
        raise too_large(most)
    return b"".join(chunks)


def too_large(most: int) -> ApiError:
    """The error for a body of more than `most` bytes."""
    return ApiError(413, f"the body is larger than {most / 2**20:g} MiB", code="request_too_large")


def respond(error: ApiError) -> JSONResponse:
    """The error as a response."""
    response = JSONResponse(error.body, error.status)
    headers = {401: [("WWW-Authenticate", 'Basic realm="API key as the password", charset="UTF-8"'),
                     ("WWW-Authenticate", "Bearer")],
               429: [("Retry-After", "1")], 503: [("Retry-After", "5")]}  # fmt: skip
    for name, value in headers.get(error.status, []):
        response.headers.append(name, value)
    return response


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
