"""What goes wrong on purpose: which fault a request gets, and what it then sees."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from teacher.wire import Wire

_STATUS = {
    "rate_limited": (429, "rate_limit_exceeded", "Rate limit reached."),
    "retry_after": (429, "rate_limit_exceeded", "Rate limit reached."),
    "retry_after_date": (429, "rate_limit_exceeded", "Rate limit reached."),
    "http_500": (500, "server_error", "The server had an error."),
    "http_502": (502, "bad_gateway", "Bad gateway."),
    "http_503": (503, "overloaded", "The engine is overloaded."),
    "http_400": (400, "invalid_value", "Invalid 'messages'."),
    "http_401": (401, "invalid_api_key", "Incorrect API key provided: {key}."),
    "http_403": (403, "forbidden", "The project of {key} has no access."),
    "http_404": (404, "model_not_found", "The model does not exist."),
    "insufficient_quota": (429, "insufficient_quota", "You exceeded your current quota, check your billing."),
    "context_length": (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens."),
    "content_filter": (400, "content_filter", "The prompt was filtered by the content policy."),
}
HTML = "<html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


def draw(shares: Mapping[str, float], body: str, attempt: int) -> str:
    """The fault of this attempt at a body, or none; the same in every run."""
    if not shares:
        return ""
    digest = hashlib.sha256(f"{body}/{attempt}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return ""


def refusal(name: str, wire: Wire, key: str) -> web.Response | None:
    """The answer with an error's status, if that is what the fault is."""
    if name not in _STATUS:
        return None
    status, code, words = _STATUS[name]
    headers = {}
    if name == "retry_after":
        headers["Retry-After"] = "1"
    if name == "retry_after_date":
        headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    return web.json_response(wire.error(status, code, words.format(key=key)), status=status, headers=headers)


async def spoiled(name: str, request: web.Request, body: dict[str, Any], hang: float) -> web.StreamResponse:
    """A reply that was written, and then something happened to it."""
    if name == "hang":
        await asyncio.sleep(hang)
    if name in ("reset", "hang"):
        _transport(request).abort()
        return web.Response()
    if name == "html":
        return web.Response(text=HTML, content_type="text/html")
    if name == "error_in_200":
        return web.json_response({"error": {"message": "Upstream failed.", "code": 502}})
    text = json.dumps(body).encode()
    if name == "not_json":
        return web.Response(body=text[:-9], content_type="application/json")
    if name == "truncated":
        response = web.StreamResponse(headers={"Content-Length": str(len(text)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(text[: len(text) // 2])
        _transport(request).close()
        return response
    if name == "no_choices":
        body |= {"choices": []} if "choices" in body else {"content": []}
    elif name == "no_usage":
        del body["usage"]
    return web.json_response(body)


def _transport(request: web.Request) -> asyncio.Transport:
    transport = request.transport
    assert isinstance(transport, asyncio.Transport)
    return transport
