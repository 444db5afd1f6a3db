"""The request to a language model, its reply, and the protocol of a client."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from vistune.records import Turn
from vistune.seeded import bits


class ShownImage(Protocol):
    """An image that is read when the request is sent (`vistune.llm.images`)."""

    @property
    def key(self) -> str: ...

    def data_url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt: the system message, few-shot pairs of messages, and the query as the last message.

    A model gets `system`, `messages`, `seed`, and unless they are None `max_tokens`, `temperature`, `top_p` and
    `schema`, the JSON schema of the reply; `extra` are further fields of a server's own, such as those that turn
    thinking off. `images` stand before the query, for models that see: data URLs, or files that are read
    when the request is sent. `kind` labels the request for the rule-based teacher and recorded replies. No part of the
    key are `record_id`, for logs and recorded replies, and, for the rule-based teacher, `vocabulary`, the categories
    that the data set annotates, and `about`, what its images are of.
    """

    system: str
    messages: tuple[Turn, ...]
    kind: str = ""
    seed: int = 0
    record_id: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    schema: Mapping[str, Any] | None = None
    vocabulary: tuple[str, ...] = ()
    about: str = ""
    images: tuple[str | ShownImage, ...] = ()
    top_p: float | None = None
    extra: Mapping[str, Any] | None = None

    @property
    def query(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text

    def key(self, model: str) -> str:
        """SHA-256 of the request as it is sent to `model`: the same on every machine, in every folder and version."""
        messages = [(one.role, one.text) for one in self.messages]
        canonical: list[Any] = [model, self.kind, self.seed, self.system, messages]
        options: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "schema": self.schema,
        }
        shown = [one if isinstance(one, str) else one.key for one in self.images]
        options |= {"images": shown or None, "top_p": self.top_p, "extra": self.extra or None}
        if given := {name: value for name, value in options.items() if value is not None}:
            canonical.append(given)
        return hashlib.sha256(json.dumps(canonical, separators=(",", ":"), sort_keys=True).encode()).hexdigest()

    def attempt(self, number: int) -> Request:
        """The request of the `number`-th attempt, from 1, at a usable reply: another seed, and so another key."""
        return self if number == 1 else replace(self, seed=bits(self.seed, "attempt", number) >> 33)


@dataclass(frozen=True, slots=True)
class Reply:
    """A raw reply. `model` is the name that the server gives itself.

    `usage` has the tokens that the server reports: `input`, `output`, and `cached`, the cached part of `input`.
    `finish` is the reason for its end: `stop`, `length` (cut off at max_tokens), `content_filter` (also a refusal),
    `thinking` (there are only thoughts); empty if unknown.
    """

    text: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    finish: str = ""


class RequestError(Exception):
    """A request got no reply, but the run can go on; an error that ends the run is a ClientError instead.

    `reason` is a code (`http_500`, `rate_limited`, `timeout`, `reset`, `truncated`, `not_json`, `no_choices`,
    `content_filter`, `context_length` …), `message` the server's own. `retry`: sending it again may help, otherwise
    it is refused for good. `retry_after`: seconds that the server wants to pass first. `overload`: the server gets too
    many requests. `billed`: the reply may have been written, and charged, before it was lost.
    """

    def __init__(
        self, reason: str, message: str = "", *, retry: bool = True, retry_after: float | None = None,
        overload: bool = False, billed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason, self.message, self.retry, self.retry_after = reason, message, retry, retry_after
        self.overload, self.billed = overload, billed


def valid_usage(counts: Mapping[str, Any]) -> dict[str, int]:
    """The counts of tokens that a server reports; a value that is not a count of 0 to 2^31 is left out."""
    return {name: count for name, count in counts.items() if type(count) is int and 0 <= count <= 2**31}


Send = Callable[[Request], Awaitable[Reply]]


class Client(AbstractAsyncContextManager["Client"]):
    """A language model as teacher or judge, used within `async with`; many tasks call `complete` concurrently."""

    name: str
    """The model's name; part of every request's key."""
    needs: tuple[str, ...] = ()
    """Parts of the context (captions, boxes) that it needs in every prompt, even if the kind includes fewer."""
    remote: ClassVar[bool] = False
    """Whether replies cost money or a server's time, so that rate limits, budgets and further attempts apply."""
    concurrency: int = 16
    """Default number of requests in flight."""

    async def __aexit__(self, *error: object) -> None:
        return None

    @abstractmethod
    async def complete(self, request: Request) -> Reply:
        """The reply to `request`. Raises RequestError if it gets none, ClientError if no request will get one."""

    async def supports_schema(self, send: Send | None = None) -> bool:  # noqa: ARG002
        """Whether replies keep to a request's `schema`, by test requests; `send` replaces `complete` for these."""
        return False
