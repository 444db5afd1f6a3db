"""Anthropic's Messages API, at Anthropic or any server that speaks it.

Format: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vistune.llm.client import Reply, Request, RequestError
from vistune.llm.faults import RefusedError, fault
from vistune.llm.http import Http
from vistune.llm.providers import providers
from vistune.llm.remote import RemoteClient
from vistune.llm.secrets import key_from_environment
from vistune.scene.english import well_formed

ANTHROPIC = "https://api.anthropic.com/v1"
VERSION = "2023-06-01"
LIMIT = 4096
"""Tokens where the request sets no limit: the interface wants one."""
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "refusal": "content_filter",
}  # fmt: skip
_SCHEMA = re.compile(r"\btools?\b|tool_choice|input_schema", re.IGNORECASE)


class AnthropicClient(RemoteClient):
    """Asks one model. A schema becomes the one tool that the model has to use; `seed` is not sent."""

    async def complete(self, request: Request) -> Reply:
        """The reply's text, or with a schema the tool's input as JSON."""
        try:
            body, _ = await self.http.post("/messages", json.dumps(self.body(request)).encode())
        except RefusedError as error:
            if request.schema is not None and _SCHEMA.search(error.told):
                raise RequestError("no_schema", error.what, retry=False) from None
            raise
        return read_reply(body, self.name, self.http.where)

    def body(self, request: Request) -> dict[str, Any]:
        """The request as the server is sent it."""
        limit = LIMIT if request.max_tokens is None else request.max_tokens
        messages = [{"role": one.role, "content": one.text} for one in request.messages]
        body: dict[str, Any] = {"model": self.name, "max_tokens": limit, "messages": messages}
        if request.system:
            body["system"] = request.system
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.schema is not None:
            body["tools"] = [{"name": "reply", "description": "Give the reply.", "input_schema": request.schema}]
            body["tool_choice"] = {"type": "tool", "name": "reply"}
        return body


def read_reply(body: Mapping[str, Any], asked: str, where: str) -> Reply:
    """A message as a reply; a RequestError or ClientError if it is none.

    A refusal or a limit that was reached may leave no content; any other message without is an error.
    """
    if error := body.get("error"):
        code = error.get("code") if isinstance(error, Mapping) else None
        raise fault(code if isinstance(code, int) and 400 <= code < 600 else 502, {"error": error}, {}, where)
    content, finish = body.get("content"), _FINISH.get(str(body.get("stop_reason")), "")
    if not isinstance(content, list) or not (content or finish in ("length", "content_filter")):
        raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
    parts = [part for part in content if isinstance(part, dict)]
    used = [json.dumps(part.get("input"), ensure_ascii=False) for part in parts if part.get("type") == "tool_use"]
    text = used[0] if used else "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
    return Reply(well_formed(text), well_formed(str(body.get("model") or asked)), read_usage(body.get("usage")), finish)


def read_usage(usage: Any) -> dict[str, int]:
    """Tokens as `Reply.usage` has them: `input` with those read from and written to the cache, which are apart here."""
    if not isinstance(usage, dict):
        return {}
    found = {name: count for name, count in usage.items() if isinstance(count, int)}
    tokens: dict[str, int] = {}
    if "input_tokens" in found:
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        tokens["input"] = sum(found.get(name, 0) for name in names)
    if "output_tokens" in found:
        tokens["output"] = found["output_tokens"]
    if "cache_read_input_tokens" in found:
        tokens["cached"] = found["cache_read_input_tokens"]
    return tokens


@providers.register("anthropic")
def anthropic(
    model: str,
    *,
    base_url: str = ANTHROPIC,
    key_env: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 600.0,
    sends: bool = True,
) -> AnthropicClient:
    """A client of the model named so at `base_url`; `key_env` names the variable that holds the key.

    Without `key_env` it is ANTHROPIC_API_KEY, and servers other than Anthropic's may do without.
    """
    key = key_from_environment(
        key_env or "ANTHROPIC_API_KEY", optional=not sends or (key_env is None and base_url != ANTHROPIC)
    )
    given = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {}) | dict(headers or {})
    return AnthropicClient(model, Http(base_url, given, key=key, timeout=timeout))
