"""Where a question is answered: limits, faults, the reply, and the counting of it all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from teacher import faults
from teacher.limits import Bucket, Stats
from teacher.replies import write
from teacher.settings import Settings
from teacher.wire import Asked, Wire, Written, tokens


class Desk:
    """Answers one body at a time, whichever way it came."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.stats = settings, Stats()
        self._bucket = Bucket(settings.rate, settings.burst) if settings.rate else None

    async def serve(self, request: web.Request, wire: Wire, key: str) -> web.StreamResponse:
        """The HTTP answer to one request."""
        stats = self.stats
        stats.now += 1
        stats.most = max(stats.most, stats.now)
        try:
            response = await self._answer(request, wire, key)
        finally:
            stats.now -= 1
        stats.statuses[str(response.status)] += 1
        return response

    async def _answer(self, request: web.Request, wire: Wire, key: str) -> web.StreamResponse:
        raw = await request.read()
        name = hashlib.sha256(raw).hexdigest()[:16]
        self.stats.bodies[name] += 1
        if self._bucket and (wait := self._bucket.take()):
            return self._busy(wire, wait)
        if self.settings.key and key != self.settings.key:
            words = f"Incorrect API key provided: {key}."
            return web.json_response(wire.error(401, "invalid_api_key", words), status=401)
        fault = faults.draw(self.settings.faults, name, self.stats.bodies[name])
        self.stats.faults[fault or "none"] += 1
        if response := faults.refusal(fault, wire, key):
            return response
        body = json.loads(raw)
        if response := self._rejection(body, wire):
            return response
        if self.settings.latency:
            await asyncio.sleep(self.settings.latency)
        reply = self.reply(wire.read(body), wire, name, fault)
        if fault in ("", "length", "filtered", "wrong_text"):
            self.stats.answered[name] += 1
            return web.json_response(reply, headers=self._quota())
        return await faults.spoiled(fault, request, reply, self.settings.hang)

    def reply(self, asked: Asked, wire: Wire, number: str, fault: str = "") -> dict[str, Any]:
        """The reply's body; its tokens are billed."""
        schema = asked.schema if self.settings.schema == "honour" else None
        text, finish = write(asked.system, asked.messages, schema, obedient=self.settings.obedient), "stop"
        if fault == "wrong_text":
            text = '{"colour": "blue"}' if schema else "Sure! Here is what you asked for."
        limit = tokens(text) // 2 if fault == "length" else asked.limit
        if limit is not None and limit < tokens(text):
            text, finish = text[: 4 * limit], "length"
        if fault == "filtered":
            text, finish = "", "content_filter"
        told = [asked.system, *(one["content"] for one in asked.messages)]
        prompt, cached = sum(map(tokens, told)), sum(map(tokens, told[:-1])) // 128 * 128
        written = Written(text, finish, prompt, tokens(text), cached)
        self.stats.prompt_tokens += prompt
        self.stats.completion_tokens += written.completion
        self.stats.cached_tokens += cached
        return wire.reply(written, number, self.settings.model)

    def _rejection(self, body: dict[str, Any], wire: Wire) -> web.Response | None:
        if not body.get("messages"):
            words = "Invalid 'messages': empty array. Expected an array with minimum length 1."
            return web.json_response(wire.error(400, "empty_array", words, "messages"), status=400)
        refused = [*self.settings.rejects, *(["response_format"] if self.settings.schema == "refuse" else [])]
        for name in refused:
            if name in body:
                words = f"Unsupported parameter: '{name}' is not supported with this model."
                return web.json_response(wire.error(400, "unsupported_parameter", words, name), status=400)
        if body.get("model", self.settings.model) != self.settings.model:
            words = f"The model '{body['model']}' does not exist."
            return web.json_response(wire.error(404, "model_not_found", words), status=404)
        return None

    def _busy(self, wire: Wire, wait: float) -> web.Response:
        headers = self._quota()
        if self.settings.wait == "seconds":
            headers["Retry-After"] = str(math.ceil(wait))
        elif self.settings.wait == "ms":
            headers["retry-after-ms"] = str(math.ceil(1000 * wait))
        elif self.settings.wait == "date":
            when = datetime.now(UTC) + timedelta(seconds=math.ceil(wait))
            headers["Retry-After"] = format_datetime(when, usegmt=True)
        error = wire.error(429, "rate_limit_exceeded", "Rate limit reached.")
        return web.json_response(error, status=429, headers=headers)

    def _quota(self) -> dict[str, str]:
        if not (self.settings.quota and self._bucket):
            return {}
        left, reset = str(self._bucket.left), f"{max(1, round(1000 * self._bucket.full))}ms"
        return {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": reset}
