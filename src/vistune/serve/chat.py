"""Chat completions: from a request's body to the engine's jobs, and from their pieces to the reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vistune.errors import DataError, VistuneError
from vistune.records import Turn
from vistune.serve.engine import Engine
from vistune.serve.guard import ServerOptions, read_body
from vistune.serve.images import ImageReader, Picture, data_url, is_data_url
from vistune.serve.jobs import ContextLengthError, Job, Piece, QueueFullError
from vistune.serve.media import MediaFetcher
from vistune.serve.openai_api import ApiError, ChatRequest, Reply, choice, conversation, read_request
from vistune.serve.structured import Grammar

_CHARACTERS = 64
"""Characters of a prompt for each token of the context that are tokenised at all."""
_FAILURES = {
    "timeout": (503, "the request waited too long, try again later"),
    "cancelled": (499, "the client has closed the connection"),
    "error": (500, "the answer could not be computed"),
}
"""Status and message for each end of an answer that is none."""
Numbered = tuple[int, Piece]
"""A piece with the index of its choice."""
T = TypeVar("T")


class ChatService:
    """Turns requests into the engine's jobs, and their pieces into replies.

    The web page uses `jobs` and `pieces`, so the limits of the API are its own.
    """

    def __init__(self, engine: Engine, options: ServerOptions) -> None:
        self._engine, self._options = engine, options
        self._images, self._media = (
            ImageReader(engine.image_processor, engine.image_grid),
            MediaFetcher(options.media_domains),
        )
        self.readers = ThreadPoolExecutor(2, "vistune-reader")  # few: a decoded image takes up to 100 MB

    def check_model(self, name: str) -> None:
        """Raises ApiError for another model than the one that is served."""
        if name != self._options.name:
            what = f"there is no such model; this server has '{self._options.name}'"
            raise ApiError(404, what, param="model", code="model_not_found")

    async def chat(self, http: Request) -> Response:
        """The reply to a chat completion over HTTP. Raises ApiError."""
        request = await self._in_thread(read_request, await read_body(http, self._options.body))
        jobs = await self.jobs(request)
        pieces = _while_connected(http, jobs, self.pieces(jobs))
        reply = Reply(self._options.name, jobs, bool(request.stream_options and request.stream_options.include_usage))
        if not request.stream:
            return JSONResponse(await _whole(jobs, pieces, reply, bool(request.logprobs)))
        first = await anext(pieces)  # an error before it still has a status
        events = _events(first, jobs, pieces, reply, bool(request.logprobs))
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def jobs(self, request: ChatRequest) -> list[Job]:
        """The jobs of a request, one for each choice; its images are read and its prompt is tokenised.

        Raises ApiError for whatever the request may not hold.
        """
        if request.model is not None:
            self.check_model(request.model)
        count = request.n or 1
        if count > self._engine.batch:
            raise ApiError(400, f"n is at most {self._engine.batch}", param="n", code="invalid_value")
        turns, urls = conversation(request.messages)
        if len(urls) > self._options.images:
            what = f"{len(urls)} images, at most {self._options.images} are allowed in a request"
            raise ApiError(422, what, param="messages", code="too_many_images")
        if sum(len(turn.text) for turn in turns) > _CHARACTERS * self._engine.max_length:
            what = f"the prompt is longer than the maximum context length of {self._engine.max_length} tokens"
            raise ApiError(422, what, param="messages", code="context_length_exceeded")
        try:
            fetched = {url: await self._media.fetch(url, at) for url, at in dict(urls).items() if not is_data_url(url)}
            pictures, ids = await self._in_thread(self._read, turns, urls, fetched)
        except DataError as error:
            raise ApiError(422, f"{error.where}: {error.what}", param=error.where, code="invalid_image") from None
        grammars = await self._in_thread(self._grammars, request.schema_of_answer, count)
        left, defaults = self._engine.max_length - len(ids), self._engine.model.generation_config
        samplings = [request.sampling(number, defaults, left) for number in range(count)]
        return [Job(ids, pictures, one, _nowhere, grammar) for one, grammar in zip(samplings, grammars, strict=True)]

    async def pieces(self, jobs: Sequence[Job]) -> AsyncGenerator[Numbered]:
        """The pieces of the answers, each with its job's index. Closing the generator cancels what is not written.

        Raises ApiError if the queue is full, the time is over, or the model fails.
        """
        try:
            async with aclosing(self._engine.answer(jobs)) as answer:
                async for index, piece in answer:
                    if error := _FAILURES.get(piece.end or ""):
                        raise ApiError(error[0], error[1], code=piece.end)
                    yield index, piece
        except QueueFullError:
            raise ApiError(429, "the queue is full, try again later", code="queue_full") from None

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.readers, function, *arguments)

    def _read(
        self, turns: Sequence[Turn], urls: Sequence[tuple[str, str]], fetched: Mapping[str, bytes]
    ) -> tuple[list[Picture], list[int]]:
        """The images, and the prompt's token ids. Raises DataError, ApiError."""
        contents = ((fetched[url] if url in fetched else data_url(url, where), where) for url, where in urls)
        pictures = [self._images.read(content, where) for content, where in contents]
        try:
            return pictures, self._engine.prompt(turns, [picture.tokens for picture in pictures])
        except ContextLengthError as error:
            raise ApiError(422, error.what, param="messages", code="context_length_exceeded") from None
        except DataError as error:
            raise ApiError(400, error.what, param="messages", code="invalid_value") from None

    def _grammars(self, schema: dict[str, Any] | None, count: int) -> list[Grammar | None]:
        """A grammar for each answer in JSON. Raises ApiError."""
        try:
            return [self._engine.grammars.grammar(schema) if schema is not None else None for _ in range(count)]
        except VistuneError as error:
            raise ApiError(400, error.what, param="response_format", code="invalid_value") from None


async def _while_connected(
    http: Request, jobs: Sequence[Job], pieces: AsyncGenerator[Numbered]
) -> AsyncGenerator[Numbered]:
    """The pieces; the jobs are cancelled when the client is gone."""

    async def cancel_when_gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        for job in jobs:
            job.cancel()

    watcher = asyncio.create_task(cancel_when_gone())
    try:
        async with aclosing(pieces):
            async for item in pieces:
                yield item
    finally:
        watcher.cancel()


async def _whole(jobs: Sequence[Job], pieces: AsyncIterator[Numbered], reply: Reply, logprobs: bool) -> dict[str, Any]:
    parts: list[list[Piece]] = [[] for _ in jobs]
    async for index, piece in pieces:
        parts[index].append(piece)
    return reply.whole([
        choice(
            index, {"role": "assistant", "content": "".join(one.text for one in own), "refusal": None}, "message",
            finish=own[-1].end, tokens=[token for one in own for token in one.tokens] if logprobs else None,
        )
        for index, own in enumerate(parts)
    ])  # fmt: skip


async def _events(
    first: Numbered,
    jobs: Sequence[Job],
    pieces: AsyncIterator[Numbered],
    reply: Reply,
    logprobs: bool,
) -> AsyncIterator[str]:
    """The chunks of a stream as server-sent events."""
    for index in range(len(jobs)):
        yield _event(reply.chunk(choice(index, {"role": "assistant", "content": ""}, "delta")))
    try:
        async for index, piece in _chained(first, pieces):
            if piece.text or piece.tokens:
                tokens = piece.tokens if logprobs else None
                yield _event(reply.chunk(choice(index, {"content": piece.text}, "delta", tokens=tokens)))
            if piece.end:
                yield _event(reply.chunk(choice(index, {}, "delta", finish=piece.end)))
    except ApiError as error:
        yield _event(error.body)
    else:
        if "usage" in (last := reply.chunk()):
            yield _event(last)
    yield "data: [DONE]\n\n"


async def _chained(first: Numbered, rest: AsyncIterator[Numbered]) -> AsyncIterator[Numbered]:
    async with aclosing(rest):  # type: ignore[type-var]
        yield first
        async for item in rest:
            yield item


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _nowhere(_: Piece) -> None:
    """Where a job's pieces go before the engine sets it."""
