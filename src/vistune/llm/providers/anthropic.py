"""Anthropic's Messages API, at Anthropic or any server that implements it.

Format: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vistune.llm.client import Reply, Request, RequestError, valid_usage
from vistune.llm.faults import RefusedError, fault
from vistune.llm.http import Http, RemoteClient
from vistune.llm.providers import providers
from vistune.llm.secrets import key_from_environment
from vistune.scene.english import well_formed

ANTHROPIC = "https://api.anthropic.com/v1"
VERSION = "2023-06-01"
LIMIT = 4096
"""Maximum number of tokens of a reply if the request sets none: the interface requires one."""
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "refusal": "content_filter",
}  # fmt: skip
_SCHEMA = re.compile(r"\btools?\b|tool_choice|input_schema", re.IGNORECASE)


class AnthropicClient(RemoteClient):
    """A client of one model. A schema becomes the only tool, which the model must use; `seed` is not sent."""

    async def complete(self, request: Request) -> Reply:
        """The reply's text, or with a schema the tool's input as JSON."""
        try:
            body = await self.http.post("/messages", self.body(request))
        except RefusedError as error:
            if request.schema is not None and _SCHEMA.search(error.details):
                raise RequestError("no_schema", error.what, retry=False) from None
            raise
        return read_reply(body, self.name, self.http.where)

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of the request."""
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


def read_reply(body: Mapping[str, Any], requested: str, where: str) -> Reply:
    """The reply in a message of the model `requested`. Raises RequestError or ClientError if there is none.

    A refusal or a limit may leave no content; any other message without content is an error.
    """
    if error := body.get("error"):
        code = error.get("code") if isinstance(error, Mapping) else None
        raise fault(code if isinstance(code, int) and 400 <= code < 600 else 502, {"error": error}, {}, where)
    content, finish = body.get("content"), _FINISH.get(str(body.get("stop_reason")), "")
    if not isinstance(content, list) or not (content or finish in ("length", "content_filter")):
        raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
    parts = [part for part in content if isinstance(part, dict)]
    inputs = [json.dumps(part.get("input"), ensure_ascii=False) for part in parts if part.get("type") == "tool_use"]
    text = inputs[0] if inputs else "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
    return Reply(
        well_formed(text), well_formed(str(body.get("model") or requested)), read_usage(body.get("usage")), finish
    )


def read_usage(usage: Any) -> dict[str, int]:
    """The server's counts by the names of `Reply.usage`; `input` includes tokens read from and written to the cache."""
    counts: dict[str, Any] = dict(valid_usage(usage)) if isinstance(usage, dict) else {}
    if "input_tokens" in counts:
        cache = ("cache_read_input_tokens", "cache_creation_input_tokens")
        counts["input_tokens"] += sum(counts.get(name, 0) for name in cache)
    names = {"input": "input_tokens", "output": "output_tokens", "cached": "cache_read_input_tokens"}
    return valid_usage({name: counts.get(other) for name, other in names.items()})


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
    """A client of `model` at `base_url`; `key_env` is the name of the variable that holds the key.

    Its default is ANTHROPIC_API_KEY, which servers other than Anthropic's do not require. Raises ClientError without a
    key or with a malformed URL.
    """
    key = key_from_environment(
        key_env or "ANTHROPIC_API_KEY", optional=not sends or (key_env is None and base_url != ANTHROPIC)
    )
    own = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
    return AnthropicClient(model, Http(base_url, own | dict(headers or {}), key=key, timeout=timeout))
