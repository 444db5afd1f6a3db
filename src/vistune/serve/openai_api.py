"""OpenAI's chat completions: the request's schema, the conversation it means, and the shapes of replies and errors."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vistune.data.render import TYPED_IMAGE
from vistune.errors import VistuneError
from vistune.records import IMAGE_TOKEN, Role, Turn
from vistune.serve.answer_text import TokenText
from vistune.serve.jobs import Job
from vistune.serve.sampling import Sampling

_BRANCHES = {"str", "text", "image_url", "json_object"}
_MOST_NAME = 64
"""Characters of a field's name that an error repeats."""

_UNSUPPORTED = {
    "tools", "tool_choice", "tool_calls", "functions", "function_call", "logit_bias", "audio", "modalities",
    "prediction", "web_search_options", "reasoning_effort", "verbosity",
}  # fmt: skip
"""Fields of OpenAI's API that mean something else than their default only elsewhere."""


class ApiError(VistuneError):
    """An error of a request: HTTP status, message, and OpenAI's `param` and `code`."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.what, "type": kind, "param": self.param, "code": self.code}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _ImageUrl(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Image(_Strict):
    type: Literal["image_url"]
    image_url: _ImageUrl


class Message(_Strict):
    """A message. What the official client repeats of an answer besides its text must be empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[_Text | _Image, Field(discriminator="type")]] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


class _StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _TextFormat(_Strict):
    type: Literal["text", "json_object"]


class _NamedSchema(_Strict):
    name: str
    description: str | None = None
    rules: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class _SchemaFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: _NamedSchema


class ChatRequest(_Strict):
    """The body of POST /v1/chat/completions. `top_k` is vLLM's extension."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[str, Field(max_length=256)] | Annotated[list[Annotated[str, Field(max_length=256)]],
                                                            Field(max_length=16)] | None = None  # fmt: skip
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    response_format: Annotated[_TextFormat | _SchemaFormat, Field(discriminator="type")] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    modalities: list[Literal["text"]] | None = None
    # without effect here:
    parallel_tool_calls: bool | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """The JSON schema that the answer follows; None for plain text."""
        if isinstance(self.response_format, _SchemaFormat):
            return self.response_format.json_schema.rules
        return {"type": "object"} if self.response_format and self.response_format.type == "json_object" else None

    def sampling(self, seed_offset: int, defaults: Any, max_tokens: int) -> Sampling:
        """How one of the choices is written; `defaults` is the checkpoint's generation config."""
        sampled = bool(defaults.do_sample)
        temperature = (_first(defaults.temperature, 1.0) if sampled else 0.0) if self.temperature is None else None
        top_p = self.top_p or (_first(defaults.top_p, 1.0) if sampled else 1.0)
        top_k = _first(self.top_k, defaults.top_k if sampled else 0, 0)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=min(_first(self.max_completion_tokens, self.max_tokens, max_tokens), max_tokens),
            temperature=_first(self.temperature, temperature), top_p=top_p, top_k=max(0, top_k),
            seed=None if self.seed is None else (self.seed + seed_offset) % 2**63,
            stop=tuple(one for one in stop if one), logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            presence_penalty=self.presence_penalty or 0.0, frequency_penalty=self.frequency_penalty or 0.0,
        )  # fmt: skip


def read_request(body: bytes) -> ChatRequest:
    """The request of a JSON body. Raises ApiError that names the field, and repeats no value."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    return request


def _invalid(error: ValidationError) -> ApiError:
    first = max(error.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
    if unsupported := next((part for part in first["loc"] if part in _UNSUPPORTED), None):
        what = f"{unsupported} is not supported by this server"
        return ApiError(400, what, param=str(unsupported), code="unsupported_parameter")
    parts = [str(part) for part in first["loc"] if not _is_branch(part)]
    place = ".".join(part for part, last in zip(parts, ["", *parts], strict=False) if part != last)  # tags, fields
    param = _short(place) or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown field: {param}", param=param, code="unknown_parameter")
    if first["type"] == "union_tag_invalid":
        message = f"the type must be one of {first['ctx']['expected_tags']}"
    else:
        message = first["msg"]
    return ApiError(400, f"{param}: {message}" if param else message, param=param, code="invalid_value")


def _is_branch(part: int | str) -> bool:
    """Whether it names a branch of a union, which pydantic puts between the fields' names."""
    return isinstance(part, str) and (part in _BRANCHES or "[" in part)


def _short(name: str) -> str:
    """A field's name as an error repeats it: no path, no data."""
    clean = re.sub(r"[^\w.-]", "?", name[:_MOST_NAME], flags=re.ASCII)
    return clean + ("…" if len(name) > _MOST_NAME else "")


def conversation(messages: Sequence[Message]) -> tuple[list[Turn], list[tuple[str, str]]]:
    """The turns, and the images' URLs in order, each with its place in the request. Raises ApiError.

    The parts of a content stand on lines of their own, as in the checkpoints' chat templates. An `<image>` that a user
    types stays text. System and developer messages at the beginning are one system turn.
    """
    turns: list[Turn] = []
    urls: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        role: Role = "system" if message.role == "developer" else message.role
        parts = [_Text(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        lines = []
        for place, part in enumerate(parts or ()):
            where = f"messages.{number}.content.{place}"
            if isinstance(part, _Text):
                lines.append(part.text.replace(IMAGE_TOKEN, TYPED_IMAGE) if role == "user" else part.text)
            elif role != "user":
                raise ApiError(400, f"{where}: images are possible in the user's messages only", param=where)
            else:
                lines.append(IMAGE_TOKEN)
                urls.append((part.image_url.url, where))
        text = "\n".join(lines)
        if role == "system" and [turn.role for turn in turns] == ["system"]:
            turns[0] = Turn("system", f"{turns[0].text}\n\n{text}")
        else:
            turns.append(Turn(role, text))
    return turns, urls


class Reply:
    """The shapes of one request's reply, at once or in chunks."""

    def __init__(self, model: str, jobs: Sequence[Job], include_usage: bool = False) -> None:
        self._jobs, self._include_usage = jobs, include_usage
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The whole completion."""
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    def chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        """A chunk of a stream; without choices it is the last one, which has the usage."""
        usage = {"usage": None if choices else self._usage()} if self._include_usage else {}
        return {**self._head, "object": "chat.completion.chunk", "choices": choices, **usage}

    def _usage(self) -> dict[str, Any]:
        prompt, written = len(self._jobs[0].ids), sum(len(job.written) for job in self._jobs)
        return {
            "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": self._jobs[0].cached},
        }  # fmt: skip


def choice(index: int, content: dict[str, Any], kind: Literal["message", "delta"], *, finish: str | None = None,
           tokens: Sequence[TokenText] | None = None) -> dict[str, Any]:  # fmt: skip
    """A choice with its message or delta; `tokens` None: no log-probabilities were requested."""
    logprobs = None if tokens is None else {"content": [_token(one, True) for one in tokens], "refusal": None}
    return {"index": index, kind: content, "logprobs": logprobs, "finish_reason": finish}


def _token(token: TokenText, with_top: bool) -> dict[str, Any]:
    # JSON has no infinity
    found = {"token": token.text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.content)}
    return found | ({"top_logprobs": [_token(one, False) for one in token.top]} if with_top else {})


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
