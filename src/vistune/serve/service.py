"""The chat service: from a request to the engine's jobs, within the server's limits, and from these to their pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from vistune.errors import DataError, VistuneError
from vistune.records import Turn
from vistune.serve.engine import Engine
from vistune.serve.images import ImageReader, Picture, is_data_url, read_data_url
from vistune.serve.jobs import ContextLengthError, Job, Piece, QueueFullError
from vistune.serve.media import MediaFetcher
from vistune.serve.openai_api import ApiError, ChatRequest, conversation
from vistune.serve.structured import Grammar

_CHARACTERS = 64
"""Characters of a prompt for each token of the context that are tokenised at all."""
_FAILURES = {
    "timeout": (503, "the request waited too long, try again later"),
    "cancelled": (499, "the client has closed the connection"),
    "error": (500, "the answer could not be computed; the log has the details"),
}
"""Status and message for each end of an answer that is none."""
Numbered = tuple[int, Piece]
"""A piece with the index of its choice."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the server allows.

    `api_key` None lets everybody in, `hosts` None accepts every Host header. `body` is the largest request in bytes,
    `images` the number of images in a request; addresses of images are fetched from `media_domains` only.
    """

    name: str
    api_key: str | None = None
    hosts: frozenset[str] | None = None
    images: int = 8
    body: int = 32 * 2**20
    media_domains: frozenset[str] = frozenset()


class ChatService:
    """Turns requests into the engine's jobs; for the API, the web page and the terminal alike."""

    def __init__(self, engine: Engine, options: ServerOptions) -> None:
        self.engine, self.options = engine, options
        self._images = ImageReader(engine.image_processor, engine.image_grid)
        self._media = MediaFetcher(options.media_domains)
        self.readers = ThreadPoolExecutor(2, "vistune-reader")  # few: a decoded image takes up to 100 MB

    def check_model(self, name: str) -> None:
        """Raises ApiError for another model than the one that is served."""
        if name != self.options.name:
            what = f"there is no such model; this server has '{self.options.name}'"
            raise ApiError(404, what, param="model", code="model_not_found")

    async def jobs(self, request: ChatRequest) -> list[Job]:
        """The jobs of a request, one for each choice; its images are read and its prompt is tokenised.

        Raises ApiError for whatever the request may not hold.
        """
        if request.model is not None:
            self.check_model(request.model)
        count = request.n or 1
        if count > self.engine.batch:
            raise ApiError(400, f"n is at most {self.engine.batch}", param="n", code="invalid_value")
        turns, urls = conversation(request.messages)
        if len(urls) > self.options.images:
            what = f"{len(urls)} images, at most {self.options.images} are allowed in a request"
            raise ApiError(422, what, param="messages", code="too_many_images")
        if sum(len(turn.text) for turn in turns) > _CHARACTERS * self.engine.max_length:
            what = f"the prompt is longer than the maximum context length of {self.engine.max_length} tokens"
            raise ApiError(422, what, param="messages", code="context_length_exceeded")
        try:
            fetched = {url: await self._media.fetch(url, at) for url, at in dict(urls).items() if not is_data_url(url)}
            pictures, ids = await self.in_thread(self._read, turns, urls, fetched)
        except DataError as error:
            raise ApiError(422, f"{error.where}: {error.what}", param=error.where, code="invalid_image") from None
        grammars = await self.in_thread(self._grammars, request.schema_of_answer, count)
        left, defaults = self.engine.max_length - len(ids), self.engine.model.generation_config
        samplings = [request.sampling(number, defaults, left) for number in range(count)]
        return [Job(ids, pictures, one, grammar=grammar) for one, grammar in zip(samplings, grammars, strict=True)]

    async def pieces(self, jobs: Sequence[Job]) -> AsyncGenerator[Numbered]:
        """The pieces of the answers, each with its job's index. Closing the generator cancels what is not written.

        Raises ApiError if the queue is full, the time is over, or the model fails.
        """
        try:
            async with aclosing(self.engine.answer(jobs)) as answer:
                async for index, piece in answer:
                    if error := _FAILURES.get(piece.end or ""):
                        raise ApiError(error[0], error[1], code=piece.end)
                    yield index, piece
        except QueueFullError:
            raise ApiError(429, "the queue is full, try again later", code="queue_full") from None

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """The function's result, computed beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, function, *arguments)

    def _read(
        self, turns: Sequence[Turn], urls: Sequence[tuple[str, str]], fetched: Mapping[str, bytes]
    ) -> tuple[list[Picture], list[int]]:
        """The images, and the prompt's token ids. Raises DataError, ApiError."""
        contents = ((fetched[url] if url in fetched else read_data_url(url, where), where) for url, where in urls)
        pictures = [self._images.read(content, where) for content, where in contents]
        try:
            return pictures, self.engine.prompt(turns, [picture.tokens for picture in pictures])
        except ContextLengthError as error:
            raise ApiError(422, error.what, param="messages", code="context_length_exceeded") from None
        except DataError as error:
            raise ApiError(400, error.what, param="messages", code="invalid_value") from None

    def _grammars(self, schema: dict[str, Any] | None, count: int) -> list[Grammar | None]:
        """A grammar for each answer in JSON. Raises ApiError."""
        try:
            return [self.engine.grammars.grammar(schema) if schema is not None else None for _ in range(count)]
        except VistuneError as error:
            raise ApiError(400, error.what, param="response_format", code="invalid_value") from None
