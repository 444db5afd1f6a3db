"""Chat completions over HTTP: the reply to a request, whole or as a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vistune.serve.guard import read_body
from vistune.serve.jobs import Job, Piece
from vistune.serve.openai_api import ApiError, Reply, choice, read_request
from vistune.serve.service import ChatService, Numbered


async def complete(http: Request, service: ChatService) -> Response:
    """The reply to a chat completion. Raises ApiError."""
    request = await service.in_thread(read_request, await read_body(http, service.options.body))
    jobs = await service.jobs(request)
    pieces = _while_connected(http, jobs, service.pieces(jobs))
    usage = bool(request.stream_options and request.stream_options.include_usage)
    reply, logprobs = Reply(service.options.name, jobs, usage), bool(request.logprobs)
    if not request.stream:
        return JSONResponse(await _whole(jobs, pieces, reply, logprobs))
    first = await anext(pieces)  # an error before it still has a status
    events = _events(jobs, _chained(first, pieces), reply, logprobs)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


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
    jobs: Sequence[Job], pieces: AsyncIterator[Numbered], reply: Reply, logprobs: bool
) -> AsyncIterator[str]:
    """The chunks of a stream as server-sent events."""
    for index in range(len(jobs)):
        yield _event(reply.chunk(choice(index, {"role": "assistant", "content": ""}, "delta")))
    try:
        async for index, piece in pieces:
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
