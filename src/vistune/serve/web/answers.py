"""The answers of one model, or of two side by side, as they grow."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from vistune.errors import VistuneError
from vistune.llm.client import RequestError
from vistune.records import IMAGE_TOKEN
from vistune.serve.chat import ChatService
from vistune.serve.jobs import Job
from vistune.serve.openai_api import ApiError, read_request
from vistune.serve.terminal_models import ServerChat
from vistune.serve.web.messages import Message, answer_message, remark, to_openai

_LOG = logging.getLogger(__name__)
_REFRESH = 0.05
"""Seconds between two updates of the page: each sends what is new in the whole conversation."""
_IMAGES = re.compile(f"({IMAGE_TOKEN})+")
Histories = Sequence[list[Message]]


@dataclass(slots=True)
class Answer:
    """An answer as far as it has come.

    `tokens` are those that the server counts, or the number of its pieces.
    """

    text: str = ""
    tokens: int = 0
    start: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = 0.0

    def add(self, piece: str) -> None:
        """Add a piece as it comes."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.text += piece
        self.tokens += 1

    @property
    def speed(self) -> str:
        """Its tokens, tokens per second after the first, and time to the first, in words."""
        if not self.first:
            return "an empty answer"
        parts = [f"{self.tokens} token{'s' * (self.tokens != 1)}"]
        if self.tokens > 1 and self.last > self.first:
            parts.append(f"{(self.tokens - 1) / (self.last - self.first):.1f} tokens/s")
        return " · ".join([*parts, f"first after {self.first - self.start:.2f} s"])


class ChatModel(Protocol):
    """A model that the page talks with."""

    name: str

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Answer]:
        """The same answer after each of its pieces; closing the generator stops it.

        `body` is that of a chat completion. Raises ApiError, VistuneError, RequestError.
        """


class LocalModel:
    """A model of this process, behind the limits of its API."""

    def __init__(self, name: str, service: ChatService, tokenizer: Any) -> None:
        self.name, self._service, self._tokenizer = name, service, tokenizer

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Answer]:
        """See ChatModel."""
        answer, jobs = Answer(), await self._jobs(body)
        async with aclosing(self._service.pieces(jobs)) as pieces:
            async for _, piece in pieces:
                if piece.text:
                    answer.add(piece.text)
                    yield answer
        answer.tokens = len(jobs[0].written)
        yield answer

    async def prompt(self, messages: list[dict[str, Any]]) -> str:
        """What the model reads, with its special tokens; each image is one `<image>`. Raises ApiError."""
        jobs = await self._jobs({"messages": messages})
        return _IMAGES.sub(IMAGE_TOKEN, self._tokenizer.decode(jobs[0].ids))

    async def _jobs(self, body: dict[str, Any]) -> list[Job]:
        request = await asyncio.to_thread(lambda: read_request(json.dumps(body).encode()))
        return await self._service.jobs(request)


class RemoteModel:
    """A model behind another server."""

    def __init__(self, chat: ServerChat) -> None:
        self.name, self._chat = chat.name, chat

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Answer]:
        """See ChatModel. Its tokens are counted by the pieces of the stream."""
        answer = Answer()
        async with aclosing(self._chat.stream(body)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if piece:
                    answer.add(piece)
                    yield answer
        yield answer


async def grow(
    models: Sequence[ChatModel], histories: Histories, options: Mapping[str, Any], with_speed: bool
) -> AsyncGenerator[list[list[Message]]]:
    """The conversations, one for each model, with the answers so far; leaving the iteration stops these."""
    replies: list[list[Message]] = [[] for _ in models]
    tasks = [
        asyncio.create_task(_follow(model, history, reply, options, with_speed))
        for model, history, reply in zip(models, histories, replies, strict=True)
    ]
    try:
        pending = set(tasks)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=_REFRESH)
            yield [[*history, *reply] for history, reply in zip(histories, replies, strict=True)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(
    model: ChatModel, history: list[Message], reply: list[Message], options: Mapping[str, Any], with_speed: bool
) -> None:
    """Keep the messages of `reply` up to date."""
    try:
        messages = await asyncio.to_thread(to_openai, history)
        async with aclosing(model.stream({"messages": messages, **options})) as answers:
            async for answer in answers:
                reply[:] = [answer_message(answer.text)]
        reply[:] = [answer_message(answer.text, whole=True)]
        if with_speed:
            reply.append(remark(f"<small>{answer.speed}</small>"))
    except (VistuneError, ApiError, RequestError) as error:
        reply.append(remark(f"⚠ {describe(error)}"))
    except Exception:
        _LOG.exception("an answer failed")
        reply.append(remark("⚠ an error of the server; its log has the details"))


def describe(error: Exception) -> str:
    """What an error says to a user of the page."""
    return error.what if isinstance(error, VistuneError) else str(error)
