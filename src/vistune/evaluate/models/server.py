"""A model behind a server under evaluation: every reply is stored before it is used, so a kill loses none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from PIL import Image

from vistune.data.images import data_url
from vistune.errors import ClientError, VistuneError
from vistune.evaluate.models.answerer import Likelihood, Prompt, naming_prompts
from vistune.image_files import MAX_MEGAPIXELS
from vistune.llm import open_client
from vistune.llm.ask import Asker
from vistune.llm.budget import Budget, Limits
from vistune.llm.client import Client, Reply, Request
from vistune.llm.http import RemoteClient
from vistune.llm.progress import Progress
from vistune.llm.store import Store
from vistune.records import Turn

_ATTEMPTS = 2
"""Replies requested until one has text."""


class ServerModel:
    """The model of a spec such as `openai:NAME`; see `Answerer`. Its replies are stored in `folder`.

    Raises ClientError for a malformed base URL or a missing key.
    """

    def __init__(
        self, spec: str, folder: Path, limits: Limits | None, max_megapixels: float = MAX_MEGAPIXELS, **server: Any
    ) -> None:
        self._encode = partial(data_url, max_megapixels=max_megapixels)
        client = open_client(spec, **server)
        assert isinstance(client, RemoteClient)
        self._client = client
        where = f"{spec} at {self._client.http.where}"
        self.name = str(self._client.name)
        self.identity = hashlib.sha256(where.encode()).hexdigest()
        self._limits = limits or Limits(concurrency=self._client.concurrency)
        self._file = folder / f"model-{self.identity[:8]}.sqlite"  # a store of its own for each server

    def likelihoods(self, *_: Any, **__: Any) -> Iterator[tuple[int, list[Likelihood]]]:
        """Raises VistuneError: chat completions have no likelihood of a given text."""
        fix = "score choices by their letter or text, or evaluate the model's folder"
        raise VistuneError("a server gives no likelihoods of choices", where=self.name, fix=fix)

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, **_: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices, each as it arrives, in no batches.

        Raises ClientError if the server cannot go on, and, after all other answers, if questions got none; the same
        call then requests only these.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with naming_prompts(prompts), Store(self._file) as store:
            run = _Run(self._client, store, self._limits, prompts, max_new_tokens, self._encode)
            yield from run.arriving()
            yield from run.stored()
            run.check()


class _Run:
    """The requests of one call, sent by a thread of their own: the consumer computes meanwhile, or is a notebook."""

    def __init__(
        self, client: Client, store: Store, limits: Limits, prompts: Sequence[Prompt], max_new_tokens: int,
        encode: Callable[[Path | Image.Image], str],
    ) -> None:  # fmt: skip
        self._client, self._store, self._prompts, self._max_new_tokens = client, store, prompts, max_new_tokens
        self._limits, self._encode = replace(limits, attempts=_ATTEMPTS), encode
        self._keys: dict[int, list[str]] = {}  # of each question's attempts
        self._answered: set[int] = set()
        self._failures: dict[int, str] = {}
        self._error: BaseException | None = None
        self._stop: Callable[[], object] = lambda: None

    def arriving(self) -> Iterator[tuple[int, str]]:
        """The answers of new replies. Its early end sends nothing more, and waits for what is in flight."""
        queue: SimpleQueue[tuple[int, Reply] | None] = SimpleQueue()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(asyncio.run, self._ask(queue))
            running.add_done_callback(lambda _: queue.put(None))
            try:
                for index, reply in iter(queue.get, None):
                    self._answered.add(index)
                    yield index, reply.text.strip()
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    self._stop()
        self._error = running.exception()

    def stored(self) -> Iterator[tuple[int, str]]:
        """The answers of earlier runs and last attempts; notes which questions have none."""
        for index, keys in self._keys.items():
            if index in self._answered:
                continue
            replies = [stored.reply for key in keys if (stored := self._store.get(key))]
            failures = [failure for key in keys if (failure := self._store.failure(key))]
            if answer := next((reply for reply in replies if not _problem(reply)), None):
                yield index, answer.text.strip()
            elif failures:
                self._failures[index] = f"{failures[-1].reason} {failures[-1].message}".strip()
            elif replies:
                self._failures[index] = _problem(replies[-1])

    def check(self) -> None:
        """Raise what ended the requests early, else ClientError if questions have no answer."""
        if self._error:
            raise self._error
        for index, reason in self._failures.items():
            name = self._prompts[index].where or repr(self._prompts[index].text[:80])
            what = f"{len(self._failures):,} of {len(self._prompts):,} questions got no answer, first {name}: {reason}"
            fix = "the same command requests these again, with --retry-failed also what the server refused"
            raise ClientError(what, where=self._client.name, fix=fix)

    async def _ask(self, queue: SimpleQueue[tuple[int, Reply] | None]) -> None:
        def accept(request: Request, reply: Reply) -> bool:
            if _problem(reply):
                return False
            queue.put((int(request.record_id), reply))
            return True

        loop, budget = asyncio.get_running_loop(), Budget(self._store.spent, self._limits, None, remote=True)
        async with Asker(self._client, self._store, self._limits, budget, Progress()) as asker:
            self._stop = lambda: loop.call_soon_threadsafe(asker.stop)
            await asker.ask(self._requests(), accept)
        if asker.error:
            raise asker.error

    def _requests(self) -> Iterator[Request]:
        for index, prompt in enumerate(self._prompts):
            request = Request(
                "", (Turn("user", prompt.text),), record_id=str(index), max_tokens=self._max_new_tokens,
                temperature=0.0, images=tuple(map(self._encode, prompt.images)),
            )  # fmt: skip
            self._keys[index] = [request.attempt(n).key(self._client.name) for n in range(1, _ATTEMPTS + 1)]
            yield request


def _problem(reply: Reply) -> str:
    """Why a reply is no answer; empty if it is one. A model may have written nothing, but not been kept from it."""
    if reply.text.strip() or reply.finish not in ("length", "content_filter", "thinking"):
        return ""
    return f"the reply has no text, it ends by {reply.finish}"
