"""Models that answer in the terminal: a checkpoint in this process, or one behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from vistune.errors import ClientError, DataError, VistuneError
from vistune.llm.body import read_body
from vistune.llm.client import RequestError
from vistune.llm.faults import error_in_body, load_json
from vistune.llm.providers.openai import OpenAIClient
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE
from vistune.serve.engine import Engine
from vistune.serve.images import ImageReader, data_url
from vistune.serve.jobs import Job, Limits
from vistune.serve.openai_api import ApiError, ChatRequest, conversation, read_request


class ChatModel(Protocol):
    """Answers the body of a chat completion."""

    name: str

    def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """The answer, piece by piece. Leaving the iteration ends it. Raises VistuneError, RequestError."""


@contextmanager
def open_checkpoint_chat(checkpoint: str, dtype: str = "auto", *, load_in_4bit: bool = False) -> Iterator[ChatModel]:
    """A checkpoint's folder or hub id, run by the engine of `vistune serve`; `dtype` is the name of one.

    Raises CheckpointError.
    """
    numbers = None if dtype == "auto" else getattr(torch, dtype)
    with Engine.load(
        checkpoint, dtype=numbers, bits=4 if load_in_4bit else None, limits=Limits(batch=1, queue=1, seconds=math.inf)
    ) as engine:
        yield _CheckpointChat(Path(checkpoint).resolve().name, engine)


class _CheckpointChat:
    def __init__(self, name: str, engine: Engine) -> None:
        self.name, self._engine, self._images = name, engine, ImageReader(engine.image_processor, engine.image_grid)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        async for _, piece in self._engine.answer([self._job(body)]):
            if piece.end == "error":
                raise VistuneError("the answer could not be computed", fix="see the message above")
            yield piece.text

    def _job(self, body: dict[str, Any]) -> Job:
        request = checked(body)
        turns, urls = conversation(request.messages)
        pictures = [self._images.read(data_url(url, place), f"image {n}") for n, (url, place) in enumerate(urls, 1)]
        ids = self._engine.prompt(turns, [picture.tokens for picture in pictures])
        defaults, left = self._engine.model.generation_config, self._engine.max_length - len(ids)
        return Job(ids, pictures, request.sampling(0, defaults, left), lambda _: None)


class ServerChat:
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

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """See ChatModel."""
        async with self._client as client:
            sent = {"model": self.name, "stream": True, **body}
            async with client.http.response("POST", client.path, json=sent) as response:
                if response.content_type == "application/json":  # the server does not stream
                    yield client.read(load_json(await read_body(response)) or {}).text
                    return
                try:
                    async for line in response.content:
                        yield self._text(client.http.hide_bytes(line))
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


def checked(body: dict[str, Any], where: str = "") -> ChatRequest:
    """The request with that body. Raises DataError (with `where`) that names the field which cannot be used."""
    try:
        return read_request(json.dumps(body).encode())
    except ApiError as error:
        raise DataError(error.message, where=where, fix="correct it: /help lists the parameters") from None
