"""The language models that judge answers: every reply is stored, so that scoring again sends no request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vistune.llm.ask import Asker
from vistune.llm.budget import Budget, Limits, Price
from vistune.llm.client import Client, Reply, Request
from vistune.llm.progress import Progress
from vistune.llm.store import FILE, Store

ATTEMPTS = 2
"""Replies requested until one can be read: one retry."""


class Judges:
    """One or several models, with the store of their replies in `folder`; used as a context manager.

    Raises VistuneError if another run is using the store.
    """

    def __init__(
        self, clients: Sequence[Client], folder: Path, limits: Limits, *, price: Price | None = None,
        console: Console | None = None,
    ) -> None:  # fmt: skip
        self._clients = {client.name: client for client in clients}
        self._limits, self._price, self._console = limits, price, console or Console(stderr=True)
        self._folder = folder
        self._store: Store | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(self._clients)

    @contextmanager
    def opened(self) -> Iterator[Judges]:
        """With the store open."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with Store(self._folder / FILE) as self._store:
            yield self

    def ask(self, requests: Sequence[Request], accept: Callable[[str], bool]) -> None:
        """Have every judge reply to the requests that its stored replies lack.

        A reply that is not accepted is requested once more. Raises ClientError or VistuneError if a judge cannot go
        on; what was received is stored.
        """
        for client in self._clients.values():
            asyncio.run(self._ask(client, requests, accept))

    async def _ask(self, client: Client, requests: Sequence[Request], accept: Callable[[str], bool]) -> None:
        store = self._store
        assert store is not None, "use `with judges.opened()`"
        progress = Progress(len(requests))
        budget = Budget(store.spent, self._limits, self._price, remote=client.remote)
        asker = Asker(client, store, self._limits, budget, progress)
        async with asker, progress.shown(self._console):
            await asker.ask(requests, lambda _, reply: _readable(reply, accept))
        if asker.error:
            raise asker.error

    def replies(self, request: Request, accept: Callable[[str], bool]) -> Mapping[str, str | None]:
        """The reply of each judge that can be read, by the judge's name; None where there is none."""
        return {name: self._reply(name, request, accept) for name in self._clients}

    def _reply(self, name: str, request: Request, accept: Callable[[str], bool]) -> str | None:
        assert self._store is not None, "use `with judges.opened()`"
        for number in range(1, self._limits.attempts + 1):
            stored = self._store.get(request.attempt(number).key(name))
            if stored and _readable(stored.reply, accept):
                return stored.reply.text
        return None


def _readable(reply: Reply, accept: Callable[[str], bool]) -> bool:
    return accept(reply.text)
