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
from vistune.llm.faults import RefusedError, fault
from vistune.llm.http import Http, RemoteClient
from vistune.llm.providers import providers
from vistune.llm.secrets import key_from_environment
from vistune.scene.english import well_formed

_LOG = logging.getLogger(__name__)
OPENAI = "https://api.openai.com/v1"
_FINISH = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length", "content_filter": "content_filter"}
_OPTIONAL = ("seed", "temperature")
_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.IGNORECASE)


class OpenAIClient(RemoteClient):
    """A client of one model. A parameter that the server rejects by name is left out, or renamed, from then on."""

    def __init__(self, model: str, http: Http) -> None:
        super().__init__(model, http)
        self._omitted: frozenset[str] = frozenset()
        self._limit = "max_tokens"

    async def complete(self, request: Request) -> Reply:
        """The first choice's text; empty if there is only the model's reasoning, with the reason in `finish`."""
        while True:
            parameters = self._omitted, self._limit
            try:
                body = await self.http.post("/chat/completions", self.body(request))
            except RefusedError as error:
                if parameters == (self._omitted, self._limit) and not self._adapt(error.details):
                    if request.schema is not None and _SCHEMA.search(error.details):
                        raise RequestError("no_schema", error.what, retry=False) from None
                    raise
            else:
                return read_reply(body, self.name, self.http.where)

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of the request."""
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages += [{"role": one.role, "content": one.text} for one in request.messages]
        body: dict[str, Any] = {"model": self.name, "messages": messages, "seed": request.seed}
        if request.max_tokens is not None:
            body[self._limit] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.schema is not None:
            form = {"name": "reply", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return {name: value for name, value in body.items() if name not in self._omitted}

    def _adapt(self, details: str) -> bool:
        """Stop sending the parameter that the server's error names; False if it names none of ours."""
        if self._limit == "max_tokens" and re.search(r"\bmax_tokens\b", details):
            self._limit = "max_completion_tokens"
            _LOG.warning("%s does not accept max_tokens: max_completion_tokens is sent instead", self.name)
            return True
        for name in _OPTIONAL:
            if name not in self._omitted and re.search(rf"\b{name}\b", details):
                self._omitted |= {name}
                _LOG.warning("%s does not accept %s: it is no longer sent", self.name, name)
                return True
        return False


def read_reply(body: Mapping[str, Any], requested: str, where: str) -> Reply:
    """The reply in a chat completion of the model `requested`. Raises RequestError or ClientError if there is none.

    Accepts content in parts, a model's reasoning without content, a refusal instead of content, no usage, and an error
    instead of a choice.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = body.get("error") or choice.get("error")
    if error and not choice.get("message"):
        code = error.get("code") if isinstance(error, Mapping) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        failure = fault(status, {"error": error}, {}, where)
        if isinstance(failure, RequestError):
            failure.billed = True  # the status was 200, as of a reply
        raise failure
    message = choice.get("message")
    if not isinstance(message, dict):
        raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
    finish = _FINISH.get(str(choice.get("finish_reason")), "")
    text = _text(message.get("content")) or message.get("refusal") or ""
    model = well_formed(str(body.get("model") or requested))
    return Reply(well_formed(str(text)), model, read_usage(body.get("usage")), finish)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def read_usage(usage: Any) -> dict[str, int]:
    """The server's counts of tokens by the names of `Reply.usage`."""
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return valid_usage(
        {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens"), "cached": cached}
    )


@providers.register("openai")
def openai(
    model: str,
    *,
    base_url: str = OPENAI,
    key_env: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 600.0,
    sends: bool = True,
) -> OpenAIClient:
    """A client of `model` at `base_url`; `key_env` is the name of the variable that holds the key.

    Its default is OPENAI_API_KEY, which servers other than OpenAI's do not require. A URL of Azure ends in
    `/openai/deployments/NAME?api-version=VERSION`. Raises ClientError without a key or with a malformed URL.
    """
    return OpenAIClient(model, connect(base_url, key_env, headers, timeout, sends))


def connect(base_url: str, key_env: str | None, headers: Mapping[str, str] | None, timeout: float, sends: bool) -> Http:
    """The session with a server of OpenAI's interface, with the key in the header that it reads."""
    key = key_from_environment(
        key_env or "OPENAI_API_KEY", optional=not sends or (key_env is None and base_url != OPENAI)
    )
    path = urlsplit(base_url).path
    azure = "/openai/deployments/" in path
    if azure and "api-version=" not in urlsplit(base_url).query:
        raise ClientError(
            "Azure requires an API version", fix="end --base-url in ?api-version=VERSION, such as 2024-10-21"
        )
    authorization = {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}
    if not key or (key_env is None and "@" in urlsplit(base_url).netloc):  # the URL's own login is used
        authorization = {}
    return Http(base_url, authorization | dict(headers or {}), key=key, timeout=timeout)
