"""Anthropic's Messages API, at Anthropic or any server that implements it.

Format: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vistune.llm.client import Reply, Request, RequestError, valid_usage
from vistune.llm.faults import error_in_body
from vistune.llm.http import RemoteClient
from vistune.llm.images import data_url
from vistune.llm.providers import providers

VERSION = "2023-06-01"
LIMIT = 4096
"""Maximum number of tokens of a reply if the request sets none: the interface requires one."""
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "refusal": "content_filter",
}  # fmt: skip


@providers.register("anthropic")
class AnthropicClient(RemoteClient):
    """A client of one model. A schema becomes the only tool, which the model must use; `seed` is not sent."""

    server = "https://api.anthropic.com/v1"
    key_variable = "ANTHROPIC_API_KEY"
    path = "/messages"
    schema_error = re.compile(r"\btools?\b|tool_choice|input_schema", re.IGNORECASE)

    def headers(self, base_url: str, key: str, key_env: str | None) -> dict[str, str]:  # noqa: ARG002
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def body(self, request: Request) -> dict[str, Any]:
        limit = LIMIT if request.max_tokens is None else request.max_tokens
        messages: list[dict[str, Any]] = [{"role": one.role, "content": one.text} for one in request.messages]
        if request.images:
            images = [_image(data_url(image)) for image in request.images]
            messages[-1]["content"] = [*images, {"type": "text", "text": request.query}]
        body: dict[str, Any] = {"model": self.name, "max_tokens": limit, "messages": messages}
        if request.system:
            body["system"] = request.system
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.schema is not None:
            body["tools"] = [{"name": "reply", "description": "Give the reply.", "input_schema": request.schema}]
            body["tool_choice"] = {"type": "tool", "name": "reply"}
        return body | dict(request.extra or {})

    def read(self, body: Mapping[str, Any]) -> Reply:
        """The message's text, or with a schema the tool's input as JSON.

        A refusal or a limit may leave no content; any other message without content is an error.
        """
        if error := body.get("error"):
            raise error_in_body(error, self.http.where)
        content, finish = body.get("content"), _FINISH.get(str(body.get("stop_reason")), "")
        if not isinstance(content, list) or not (content or finish in ("length", "content_filter")):
            raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
        parts = [part for part in content if isinstance(part, dict)]
        inputs = [json.dumps(part.get("input"), ensure_ascii=False) for part in parts if part.get("type") == "tool_use"]
        texts = [str(part.get("text") or "") for part in parts if part.get("type") == "text"]
        text = inputs[0] if inputs else "".join(texts)
        if not text and any(part.get("type") == "thinking" for part in parts):
            finish = "thinking"
        return Reply(text, str(body.get("model") or self.name), _usage(body.get("usage")), finish)


def _image(url: str) -> dict[str, Any]:
    """The part of a message that shows the image in a data URL."""
    head, _, data = url.partition(",")
    source = {"type": "base64", "media_type": head.removeprefix("data:").partition(";")[0], "data": data}
    return {"type": "image", "source": source}


def _usage(usage: Any) -> dict[str, int]:
    """The counts by the names of `Reply.usage`; `input` includes tokens read from and written to the cache."""
    counts = valid_usage(usage) if isinstance(usage, dict) else {}
    cached, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens", 0)
    total = counts["input_tokens"] + (cached or 0) + written if "input_tokens" in counts else None
    return valid_usage({"input": total, "output": counts.get("output_tokens"), "cached": cached})
