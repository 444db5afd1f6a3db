"""Models that answer chat completions: a checkpoint in this process, or one behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from vistune.errors import ClientError
from vistune.llm.body import read_body
from vistune.llm.client import RequestError
from vistune.llm.faults import error_in_body, load_json
from vistune.llm.providers.openai import OpenAIClient
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE
from vistune.records import IMAGE_TOKEN
from vistune.serve.engine import Engine
from vistune.serve.jobs import Job, Limits
from vistune.serve.openai_api import read_request
from vistune.serve.service import ChatService, ServerOptions

_IMAGES = re.compile(f"({IMAGE_TOKEN})+")


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
    """A model that the page and the terminal talk with."""

    name: str

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Answer]:
        """The same answer after each of its pieces; closing the generator stops it.

        `body` is that of a chat completion. Raises VistuneError, RequestError.
        """


class LocalModel:
    """A model of this process, within the limits of its service."""

    def __init__(self, service: ChatService) -> None:
        self.name, self._service = service.options.name, service

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
        return _IMAGES.sub(IMAGE_TOKEN, self._service.engine.tokenizer.decode(jobs[0].ids))

    async def _jobs(self, body: dict[str, Any]) -> list[Job]:
        request = await asyncio.to_thread(lambda: read_request(json.dumps(body).encode()))
        return await self._service.jobs(request)


@contextmanager
def open_local(checkpoint: str, dtype: str = "auto", *, load_in_4bit: bool = False) -> Iterator[LocalModel]:
    """A checkpoint's folder or hub id, for one user; `dtype` is the name of one. Raises CheckpointError."""
    chosen = None if dtype == "auto" else getattr(torch, dtype)
    limits = Limits(batch=1, queue=1, seconds=math.inf)
    with Engine.load(checkpoint, dtype=chosen, bits=4 if load_in_4bit else None, limits=limits) as engine:
        options = ServerOptions(Path(checkpoint).resolve().name, images=engine.max_length)
        yield LocalModel(ChatService(engine, options))


class RemoteModel:
    """A model of the server at `base_url`; without a name, the only one that it lists.

    Raises ClientError if the server lists none or several, or cannot be reached.
    """

    def __init__(self, base_url: str, name: str | None, key_env: str | None) -> None:
        self._client = OpenAIClient(name or "", base_url=base_url, key_env=key_env)
        self.name = name or asyncio.run(self._only_model())

    async def _only_model(self) -> str:
        async with self._client as client:
            listed = (await client.http.json("GET", "/models")).get("data")
        names = [str(one.get("id")) for one in listed or () if isinstance(one, dict)]
        if len(names) != 1:
            fix = f"give --model, one of: {', '.join(names)}" if names else "give --model"
            raise ClientError(f"the server lists {len(names)} models", where=self._client.http.where, fix=fix)
        return names[0]

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Answer]:
        """See ChatModel. Its tokens are counted by the pieces of the stream."""
        answer = Answer()
        async with self._client as client:
            sent = {"model": self.name, "stream": True, **body}
            async with client.http.response("POST", client.path, json=sent) as response:
                if response.content_type == "application/json":  # the server does not stream
                    answer.add(client.read(load_json(await read_body(response)) or {}).text)
                else:
                    async for text in self._texts(response.content):
                        answer.add(text)
                        yield answer
        yield answer

    async def _texts(self, lines: AsyncIterable[bytes]) -> AsyncIterator[str]:
        """The pieces of text in a stream of events."""
        try:
            async for line in lines:
                if text := self._text(self._client.http.hide_bytes(line)):
                    yield text
        except WRONG_TYPE as error:  # ValueError: a line without an end
            raise RequestError("not_a_reply", f"{NOT_IN_FORMAT}: {error}") from None

    def _text(self, line: bytes) -> str:
        """The text in a line of a stream of events."""
        chunk = load_json(line.removeprefix(b"data:")) if line.startswith(b"data:") else None
        if not isinstance(chunk, dict):  # an event's name, a comment, [DONE]
            return ""
        if error := chunk.get("error"):
            raise error_in_body(error, self._client.http.where)
        choices = chunk.get("choices") or [{}]
        return str((choices[0].get("delta") or {}).get("content") or "")
