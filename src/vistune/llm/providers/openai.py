"""Any server with OpenAI's chat completions: OpenAI, Azure, vLLM, Ollama, llama.cpp, transformers serve …

Format: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from vistune.errors import ClientError
from vistune.llm.client import Reply, Request, RequestError, valid_usage
from vistune.llm.faults import RefusedError, error_in_body
from vistune.llm.http import RemoteClient
from vistune.llm.images import data_url, generic_tokens, openai_tokens
from vistune.llm.providers import providers

_LOG = logging.getLogger(__name__)
_FINISH = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length", "content_filter": "content_filter"}
_THOUGHTS = ("thinking", "reasoning", "reasoning_text", "thought")
"""Types of a message's parts that hold thoughts."""
_REPLACEMENTS = {"max_tokens": "max_completion_tokens", "seed": "", "temperature": "", "top_p": ""}
"""What is sent instead of a parameter that a server rejects; empty for nothing."""


@providers.register("openai")
class OpenAIClient(RemoteClient):
    """A client of one model. A parameter that the server rejects by name is left out, or renamed, from then on.

    A URL of Azure ends in `/openai/deployments/NAME?api-version=VERSION`.
    """

    server = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"
    path = "/chat/completions"
    schema_error = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.IGNORECASE)
    _rejected: Mapping[str, str] = {}
    """The parameters that the server rejected, with their replacements."""

    def headers(self, base_url: str, key: str, key_env: str | None) -> dict[str, str]:
        """The key in the header that the server reads; none if the URL has a login and no key is named."""
        parts = urlsplit(base_url)
        azure = "/openai/deployments/" in parts.path
        if azure and "api-version=" not in parts.query:
            fix = "end --base-url in ?api-version=VERSION, such as 2024-10-21"
            raise ClientError("Azure requires an API version", fix=fix)
        if not key or (key_env is None and "@" in parts.netloc):
            return {}
        return {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}

    async def complete(self, request: Request) -> Reply:
        """The first choice's text; empty if there is only the model's reasoning, with the reason in `finish`."""
        while True:
            rejected = self._rejected
            try:
                return await super().complete(request)
            except RefusedError as error:
                # another request in flight may have changed the parameters meanwhile
                if rejected is self._rejected and not self._adapt(error.details):
                    raise

    def image_tokens(self, width: int, height: int) -> int:
        """By OpenAI's rule at OpenAI, else by the generic one."""
        return (openai_tokens if self.http.where == self.server else generic_tokens)(width, height)

    def body(self, request: Request) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
        messages += [{"role": one.role, "content": one.text} for one in request.messages]
        if request.images:
            images = [{"type": "image_url", "image_url": {"url": url}} for url in map(data_url, request.images)]
            messages[-1]["content"] = [*images, {"type": "text", "text": request.query}]
        body: dict[str, Any] = {"model": self.name, "messages": messages, "seed": request.seed}
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.schema is not None:
            form = {"name": "reply", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        names = {name: self._rejected.get(name, name) for name in body}
        return {names[name]: value for name, value in body.items() if names[name]} | dict(request.extra or {})

    def _adapt(self, details: str) -> bool:
        """Stop sending the parameter that the server's error names; False if it names none of ours."""
        for name, replacement in _REPLACEMENTS.items():
            if name not in self._rejected and re.search(rf"\b{name}\b", details):
                self._rejected = {**self._rejected, name: replacement}
                _LOG.warning("%s does not accept %s: %s is sent instead", self.name, name, replacement or "nothing")
                return True
        return False

    def read(self, body: Mapping[str, Any]) -> Reply:
        """Accepts content in parts or in a tool's arguments, a refusal or thoughts alone, no usage, no choice."""
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message, error = choice.get("message"), body.get("error") or choice.get("error")
        if error and not message:
            raise error_in_body(error, self.http.where)
        if not isinstance(message, dict):
            raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
        refusal = message.get("refusal")
        text = _text(message.get("content")) or refusal or _arguments(message)
        model = str(body.get("model") or self.name)
        finish = "content_filter" if refusal else _FINISH.get(str(choice.get("finish_reason")), "")
        if not text and _has_thoughts(message):
            finish = "thinking"
        return Reply(str(text), model, _usage(body.get("usage")), finish)


def _text(content: Any) -> str:
    """The content, or the text of its parts: not of those that are thoughts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") not in _THOUGHTS]
        return "".join(str(part.get("text") or "") for part in parts)
    return content if isinstance(content, str) else ""


def _arguments(message: Mapping[str, Any]) -> str:
    """The arguments of the first tool call: some servers reply to a schema with one."""
    calls = message.get("tool_calls")
    function = calls[0].get("function") if isinstance(calls, list) and calls and isinstance(calls[0], dict) else None
    return str(function.get("arguments") or "") if isinstance(function, dict) else ""


def _has_thoughts(message: Mapping[str, Any]) -> bool:
    parts = message.get("content")
    typed = isinstance(parts, list) and any(isinstance(part, dict) and part.get("type") in _THOUGHTS for part in parts)
    return bool(typed or message.get("reasoning_content") or message.get("reasoning"))


def _usage(usage: Any) -> dict[str, int]:
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return valid_usage(
        {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens"), "cached": cached}
    )
