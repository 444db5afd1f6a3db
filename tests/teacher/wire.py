"""The wire formats: what a request asks, and how a reply or an error is said, in OpenAI's and Anthropic's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks: the system's text, the other messages, and the limits."""

    system: str
    messages: Sequence[Mapping[str, str]]
    schema: Any
    limit: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """A reply with what it cost; `finish` in OpenAI's words."""

    text: str
    finish: str
    prompt: int
    completion: int
    cached: int


class Wire(Protocol):
    """One wire format."""

    def read(self, body: Mapping[str, Any]) -> Asked: ...
    def reply(self, written: Written, number: str, model: str) -> dict[str, Any]: ...
    def error(self, status: int, code: str, words: str, param: str | None = None) -> dict[str, Any]: ...


def tokens(text: str) -> int:
    """The tokens of a text, at four characters each."""
    return (len(text) + 3) // 4


def _text(content: str | list[dict[str, str]]) -> str:
    """A message's content, which may come in parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class OpenAI:
    """Chat completions."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        told = [{**one, "content": _text(one["content"])} for one in body["messages"]]
        system = "\n".join(one["content"] for one in told if one["role"] == "system")
        messages = [one for one in told if one["role"] != "system"]
        wanted = body.get("response_format") or {}
        schema = wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None
        return Asked(system, messages, schema, body.get("max_completion_tokens", body.get("max_tokens")))

    def reply(self, written: Written, number: str, model: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": written.text}
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": written.finish}],
            "usage": {
                "prompt_tokens": written.prompt,
                "completion_tokens": written.completion,
                "total_tokens": written.prompt + written.completion,
                "prompt_tokens_details": {"cached_tokens": written.cached},
            },
        }

    def error(self, status: int, code: str, words: str, param: str | None = None) -> dict[str, Any]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": words, "type": kind, "param": param, "code": code}}


class Anthropic:
    """Messages."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        forced = (body.get("tool_choice") or {}).get("name")
        schema = next((tool["input_schema"] for tool in body.get("tools", ()) if tool["name"] == forced), None)
        return Asked(body.get("system", ""), body["messages"], schema, body["max_tokens"])

    def reply(self, written: Written, number: str, model: str) -> dict[str, Any]:
        finish = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[written.finish]
        content = {"type": "text", "text": written.text}
        if written.text.startswith("{") and finish == "end_turn":
            content = {"type": "tool_use", "id": "toolu_1", "name": "reply", "input": json.loads(written.text)}
            finish = "tool_use"
        return {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [content],
            "stop_reason": finish,
            "usage": {
                "input_tokens": written.prompt - written.cached,
                "cache_read_input_tokens": written.cached,
                "cache_creation_input_tokens": 0,
                "output_tokens": written.completion,
            },
        }

    def error(self, status: int, code: str, words: str, param: str | None = None) -> dict[str, Any]:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
        kinds |= {404: "not_found_error", 429: "rate_limit_error"}
        message = f"{param}: {words}" if param else words
        if code == "insufficient_quota":
            status, message = 400, f"Your credit balance is too low. {words}"
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}
