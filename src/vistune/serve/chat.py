"""Chat completions: from a request's body to the engine's jobs, and from their pieces to the reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vistune.errors import DataError
from vistune.serve.engine import Engine
from vistune.serve.guard import ServerOptions, read_body
from vistune.serve.images import ImageReader, data_url
from vistune.serve.jobs import Job, Piece, QueueFullError
from vistune.serve.openai_api import ApiError, ChatRequest, Reply, choice, conversation, read_request

_CHARACTERS = 64
"""Characters of a prompt for each token of the context that are tokenised at all."""
Numbered = tuple[int, Piece]
"""A piece with the index of its choice."""


class ChatService:
    """Turns requests into the engine's jobs, and their pieces into replies."""

    def __init__(self, engine: Engine, options: ServerOptions) -> None:
        self._engine, self._options = engine, options
        self._images = ImageReader(engine.image_processor)
        self.readers = ThreadPoolExecutor(2, "vistune-reader")  # few: a decoded image takes up to 100 MB

    def check_model(self, name: str) -> None:
        """Raises ApiError for another model than the one that is served."""
        if name != self._options.name:
            what = f"there is no such model; this server has '{self._options.name}'"
            raise ApiError(404, what, param="model", code="model_not_found")

    async def chat(self, http: Request) -> Response:
        """The reply to a chat completion. Raises ApiError."""
        body = await read_body(http, self._options.body)
        jobs, request = await asyncio.get_running_loop().run_in_executor(self.readers, self._jobs, body)
        pieces = self._pieces(jobs, http)
        reply = Reply(self._options.name, jobs, bool(request.stream_options and request.stream_options.include_usage))
        if not request.stream:
            return JSONResponse(await _whole(jobs, pieces, reply, bool(request.logprobs)))
        first = await anext(pieces)  # an error before it still has a status
        events = _events(first, jobs, pieces, reply, bool(request.logprobs))
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    def _jobs(self, body: bytes) -> tuple[list[Job], ChatRequest]:
        """The jobs of a request, one for each choice; images are read and the prompt is tokenised here."""
        request = read_request(body)
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
            pictures = [self._images.read(_content(url, where), where) for url, where in urls]
        except DataError as error:
            raise ApiError(422, f"{error.where}: {error.what}", param=error.where, code="invalid_image") from None
        try:
            ids = self._engine.prompt(turns, len(urls))
        except DataError as error:
            too_long = "maximum context length" in error.what
            status, code = (422, "context_length_exceeded") if too_long else (400, "invalid_value")
            raise ApiError(status, error.what, param="messages", code=code) from None
        left, defaults = self._engine.max_length - len(ids), self._engine.model.generation_config
        samplings = [request.sampling(number, defaults, left) for number in range(count)]
        return [Job(ids, pictures, sampling, _nowhere) for sampling in samplings], request

    async def _pieces(self, jobs: Sequence[Job], http: Request) -> AsyncIterator[Numbered]:
        """The engine's pieces; ends, and cancels the jobs, when the client is gone. Raises ApiError."""

        async def cancel_when_gone() -> None:
            while (await http.receive())["type"] != "http.disconnect":
                pass
            for job in jobs:
                job.cancel()

        watcher = asyncio.create_task(cancel_when_gone())
        try:
            async with aclosing(self._engine.answer(jobs)) as answer:  # type: ignore[type-var]
                async for index, piece in answer:
                    if piece.end == "timeout":
                        raise ApiError(503, "the request waited too long, try again later", code="timeout")
                    if piece.end == "cancelled":
                        raise ApiError(499, "the client has closed the connection", code="cancelled")
                    if piece.end == "error":
                        raise ApiError(500, "the answer could not be computed", code="internal_error")
                    yield index, piece
        except QueueFullError:
            raise ApiError(429, "the queue is full, try again later", code="queue_full") from None
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


def _content(url: str, where: str) -> bytes:
    """The bytes of an image that a request names. Raises DataError."""
    if url[:5].lower() != "data:":
        raise DataError("image addresses are not fetched here, send a data URL (data:image/png;base64,…)", where=where)
    return data_url(url, where)


def _nowhere(_: Piece) -> None:
    """Where a job's pieces go before the engine sets it."""
