"""The language models that judge answers: every reply is stored, so that scoring again sends no request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from rich.console import Console

from vistune.errors import ClientError
from vistune.llm import open_client, options_of
from vistune.llm.ask import Asker, in_loop
from vistune.llm.budget import Budget, Limits, Price
from vistune.llm.client import Client, Reply, Request
from vistune.llm.progress import Progress
from vistune.llm.store import FILE, Store
from vistune.terminal import Terminal

ATTEMPTS = 2
"""Replies requested until one can be read: one retry."""

Accept = Callable[[str], bool]
"""Whether a reply can be read."""


def open_judge(spec: str, folder: Path, **server: Any) -> Client:
    """The client of a judge whose replies are stored in `folder`.

    Without its API key it is opened if the folder has replies: perhaps all that are needed. Raises ClientError.
    """
    options = options_of(spec.partition(":")[0])
    given = server | ({"folder": folder} if "folder" in options else {})
    try:
        return open_client(spec, **given)
    except ClientError as error:
        if "sends" not in options or not (folder / FILE).exists():
            raise
        return _StoredOnly(open_client(spec, sends=False, **given), error)


class _StoredOnly(Client):
    """A judge without a key: the first request that has to be sent raises `error`."""

    remote: ClassVar[bool] = True

    def __init__(self, client: Client, error: ClientError) -> None:
        self.name, self.concurrency, self._error = client.name, client.concurrency, error

    async def __aenter__(self) -> Self:
        raise self._error

    async def complete(self, request: Request) -> Reply:  # noqa: ARG002
        raise self._error


class Judges:
    """One or several models, with the store of their replies in `folder`; used within `with judges.opened()`.

    Raises VistuneError if another run is using the store.
    """

    def __init__(
        self, clients: Sequence[Client], folder: Path, limits: Limits, *, price: Price | None = None,
        console: Console | None = None,
    ) -> None:  # fmt: skip
        self._clients = {client.name: client for client in clients}
        self._limits, self._price, self._console = limits, price, console or Terminal(stderr=True)
        self._folder = folder
        self._opened: Store | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(self._clients)

    @contextmanager
    def opened(self) -> Iterator[Judges]:
        """With the store open."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with Store(self._folder / FILE) as self._opened:
            yield self

    def ask(self, requests: Sequence[Request], accept: Accept) -> None:
        """Have every judge reply to the requests that its stored replies lack.

        A reply that is not accepted is requested once more. A request that gets no reply, after its retries, is left
        out, and sent again in the next run. Raises ClientError if a judge cannot go on; what was received is stored.
        """
        distinct = list({request.key(""): request for request in requests}.values())
        for client in self._clients.values():
            in_loop(self._ask(client, distinct, accept))

    async def _ask(self, client: Client, requests: Sequence[Request], accept: Accept) -> None:
        progress = Progress()
        budget = Budget(self._store.spent, self._limits, self._price, remote=client.remote)
        # attempts are counted here, not by the asker, which takes a reply's readability under other rules for granted
        asker = Asker(client, self._store, replace(self._limits, attempts=1), budget, progress)
        async with asker, progress.shown(self._console):
            for number in range(1, self._limits.attempts + 1):
                progress.total += len(requests)
                await asker.ask([request.attempt(number) for request in requests], lambda *_: True)
                requests = [one for one in requests if self._is_unreadable(client.name, one.attempt(number), accept)]
                if asker.stopped:
                    break
        if asker.error:
            raise asker.error

    def _is_unreadable(self, name: str, attempt: Request, accept: Accept) -> bool:
        stored = self._store.get(attempt.key(name))
        return stored is not None and not accept(stored.reply.text)

    def replies(self, request: Request, accept: Accept) -> Mapping[str, str | None]:
        """The first reply of each judge that can be read, by the judge's name; None where there is none."""
        return {name: self._reply(name, request, accept) for name in self._clients}

    def _reply(self, name: str, request: Request, accept: Accept) -> str | None:
        for number in range(1, self._limits.attempts + 1):
            stored = self._store.get(request.attempt(number).key(name))
            if stored is None:
                break
            if accept(stored.reply.text):
                return stored.reply.text
        return None

    def problem(self, name: str, request: Request) -> str:
        """Why there is no reply of a judge that can be read."""
        for number in range(1, self._limits.attempts + 1):
            if failure := self._store.failure(request.attempt(number).key(name)):
                return f"no reply ({failure.reason})"
        stored = self._store.get(request.key(name))
        return "no verdict in its reply" if stored else "not requested: the cap on spending is reached"

    @property
    def _store(self) -> Store:
        assert self._opened is not None, "use `with judges.opened()`"
        return self._opened
