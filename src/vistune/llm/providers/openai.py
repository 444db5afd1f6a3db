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
from vistune.llm.client import Reply, Request, RequestError
from vistune.llm.faults import RefusedError, fault
from vistune.llm.http import Http
from vistune.llm.providers import providers
from vistune.llm.remote import RemoteClient
from vistune.llm.secrets import key_from_environment
from vistune.scene.english import well_formed

_LOG = logging.getLogger(__name__)
OPENAI = "https://api.openai.com/v1"
_FINISH = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length", "content_filter": "content_filter"}
_OPTIONAL = ("seed", "temperature")
_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.IGNORECASE)


class OpenAIClient(RemoteClient):
    """Asks one model. A parameter that the server rejects by name is left out, or renamed, from then on."""

    def __init__(self, model: str, http: Http) -> None:
        super().__init__(model, http)
        self._omitted: frozenset[str] = frozenset()
        self._limit = "max_tokens"

    async def complete(self, request: Request) -> Reply:
        """The first choice's text; empty if the model only thought, with `finish` saying why it ended."""
        while True:
            shape = self._omitted, self._limit
            try:
                body, _ = await self.http.post("/chat/completions", json.dumps(self.body(request)).encode())
            except RefusedError as error:
                if shape == (self._omitted, self._limit) and not self._adapt(error.told):
                    if request.schema is not None and _SCHEMA.search(error.told):
                        raise RequestError("no_schema", error.what, retry=False) from None
                    raise
            else:
                return read_reply(body, self.name, self.http.where)

    def body(self, request: Request) -> dict[str, Any]:
        """The request as the server is sent it."""
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

    def _adapt(self, told: str) -> bool:
        """Change what is sent so that the parameter which the server names is not; False if there is none such."""
        if self._limit == "max_tokens" and re.search(r"\bmax_tokens\b", told):
            self._limit = "max_completion_tokens"
            _LOG.warning("%s does not take max_tokens: it is sent max_completion_tokens from here on", self.name)
            return True
        for name in _OPTIONAL:
            if name not in self._omitted and re.search(rf"\b{name}\b", told):
                self._omitted |= {name}
                _LOG.warning("%s does not take %s: it is left out from here on", self.name, name)
                return True
        return False


def read_reply(body: Mapping[str, Any], asked: str, where: str) -> Reply:
    """A chat completion as a reply; a RequestError or ClientError if it is none.

    Taken as they come: content in parts, no content beside a model's reasoning, a refusal in place of content, no
    usage, an error in the place of a choice.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = body.get("error") or choice.get("error")
    if error and not choice.get("message"):
        code = error.get("code") if isinstance(error, Mapping) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        found = fault(status, {"error": error}, {}, where)
        if isinstance(found, RequestError):
            found.billed = True  # it came as a reply
        raise found
    message = choice.get("message")
    if not isinstance(message, dict):
        raise RequestError("no_choices", json.dumps(body)[:200], billed=True)
    finish = _FINISH.get(str(choice.get("finish_reason")), "")
    text = _text(message.get("content")) or message.get("refusal") or ""
    model = well_formed(str(body.get("model") or asked))
    return Reply(well_formed(str(text)), model, read_usage(body.get("usage")), finish)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def read_usage(usage: Any) -> dict[str, int]:
    """Tokens as `Reply.usage` has them; nothing of what the server does not count."""
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    found = {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens"), "cached": cached}
    return {name: count for name, count in found.items() if isinstance(count, int)}


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
    """A client of the model named so at `base_url`; `key_env` names the variable that holds the key.

    Without `key_env` it is OPENAI_API_KEY, and servers other than OpenAI's may do without. On Azure the URL ends in
    `/openai/deployments/NAME?api-version=VERSION`.
    """
    return OpenAIClient(model, connect(base_url, key_env, headers, timeout, sends))


def connect(base_url: str, key_env: str | None, headers: Mapping[str, str] | None, timeout: float, sends: bool) -> Http:
    """The session with a server of OpenAI's interface, its key in the header where it belongs."""
    key = key_from_environment(
        key_env or "OPENAI_API_KEY", optional=not sends or (key_env is None and base_url != OPENAI)
    )
    path = urlsplit(base_url).path
    azure = "/openai/deployments/" in path
    if azure and "api-version=" not in urlsplit(base_url).query:
        raise ClientError("Azure wants a version", fix="end --base-url in ?api-version=VERSION, such as 2024-10-21")
    given = {} if not key or (key_env is None and "@" in urlsplit(base_url).netloc) else _authorization(key, azure)
    return Http(base_url, given | dict(headers or {}), key=key, timeout=timeout)


def _authorization(key: str, azure: bool) -> dict[str, str]:
    return {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}
