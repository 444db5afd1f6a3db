"""What is asked of a teacher or judge, what comes back, and the protocol between."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

from vistune.llm.template import Template
from vistune.records import Role


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt after the system's: a few-shot example's side, or the query."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt: the system's text, few-shot pairs of messages, and last the query.

    A language model is sent `system`, `messages`, `seed`, and unless None `max_tokens`, `temperature` and `schema`,
    the JSON schema that the reply has to keep to. `kind` tells a teacher by rule what is wanted. No part of the key:
    `record_id`, for logs and recorded replies, and `vocabulary`, the data set's categories, for a teacher by rule
    (empty where they are too many to be annotated exhaustively).
    """

    system: str
    messages: tuple[Message, ...]
    kind: str = ""
    seed: int = 0
    record_id: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    schema: Mapping[str, Any] | None = None
    vocabulary: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """The last message's text: the context (`vistune.scene.context`) of the image that is asked about."""
        return self.messages[-1].text

    def key(self, model: str) -> str:
        """SHA-256 of the request as `model` is asked it: the same for every machine, folder and version."""
        return hashlib.sha256(_canonical(model)(self).encode()).hexdigest()


@lru_cache(maxsize=16)
def _canonical(model: str) -> Template:
    """What is hashed of the requests to a model."""

    def render(request: Request) -> str:
        messages = [(one.role, one.text) for one in request.messages]
        canonical = [model, request.kind, request.seed, request.system, messages]
        options = {"max_tokens": request.max_tokens, "temperature": request.temperature, "schema": request.schema}
        if sent := {name: value for name, value in options.items() if value is not None}:
            canonical.append(sent)
        return json.dumps(canonical, separators=(",", ":"), sort_keys=True)

    return Template(render)


@dataclass(frozen=True, slots=True)
class Reply:
    """The raw reply. `model` is the name that the answering side gave.

    `usage` counts tokens where that side does: `input`, `output`, and `cached`, the part of `input` that was cached.
    `finish` is why it ended: `stop`, `length` (cut off at max_tokens), `content_filter`, or empty where not said.
    """

    text: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    finish: str = ""


class RequestError(Exception):
    """A request has no reply, but the run can go on; what must stop the run is a ClientError instead.

    `reason` is a code (`http_500`, `rate_limited`, `timeout`, `reset`, `truncated`, `not_json`, `no_choices`,
    `content_filter`, `context_length` …), `words` what the server said. `retry`: asking again may help; else this
    request is refused for good. `after`: the seconds that the server wants to be left alone. `overload`: it was
    asked too much. `billed`: the reply may have been written, and paid for, before it was lost.
    """

    def __init__(
        self, reason: str, words: str = "", *, retry: bool = True, after: float | None = None,
        overload: bool = False, billed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"{reason}: {words}" if words else reason)
        self.reason, self.words, self.retry, self.after = reason, words, retry, after
        self.overload, self.billed = overload, billed


Ask = Callable[[Request], Awaitable[Reply]]


class Client(ABC):
    """A teacher or judge, open from `async with` on; `complete` is called by many tasks at a time."""

    name: str
    """Who is asked (e.g. the model's name); a part of every request's key."""
    context: Mapping[str, Collection[str]] = MappingProxyType({})
    """The parts of an image's context to show for a kind, in place of the kind's own; usually none."""
    remote: ClassVar[bool] = False
    """Whether replies cost money or a server's time, so that rates, budgets and second attempts matter."""
    at_once: int = 16
    """How many requests at a time suit it, where the user does not say."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    async def complete(self, request: Request) -> Reply:
        """The reply to `request`; a RequestError if there is none this time, a ClientError if nobody will get one."""

    async def keeps_schema(self, ask: Ask | None = None) -> bool:  # noqa: ARG002
        """Whether replies keep to a request's `schema`, found out by asking; without, the text format is used.

        `ask` sends what is asked in the place of `complete`, for whoever keeps an account of it.
        """
        return False
