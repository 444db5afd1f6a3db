"""What the clients that ask a server share: an HTTP session while open, and the question whether schemas are kept."""

from __future__ import annotations

import asyncio
import json
import random
from types import TracebackType
from typing import Any, ClassVar, Self

from vistune.llm.client import Client, Message, Reply, Request, RequestError, Send
from vistune.llm.http import Http

PROBE_TRIES, PROBE_REPLIES = 6, 3


class RemoteClient(Client):
    """A client whose replies come over the network; `http` is open while the client is."""

    remote: ClassVar[bool] = True

    def __init__(self, name: str, http: Http) -> None:
        self.name, self.http = name, http

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.http.where!r})"

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.__aexit__(kind, error, trace)

    async def supports_schema(self, send: Send | None = None) -> bool:
        """Asks one small question with a schema, up to three times, as one bad reply shows nothing.

        Raises the last RequestError if there is no reply in six attempts.
        """
        replies = 0
        for attempt in range(1, PROBE_TRIES + 1):
            try:
                if kept(await (send or self.complete)(probe())):
                    return True
                replies += 1
            except RequestError as error:
                if error.reason == "no_schema":
                    return False
                if attempt == PROBE_TRIES and not replies:
                    raise
                await asyncio.sleep(min(30.0, error.retry_after or random.uniform(0.1, 0.2) * 2**attempt))
            if replies == PROBE_REPLIES:
                break
        return False


def probe() -> Request:
    """A question whose prompt says nothing about the form of the reply, so that only the schema can bring it about."""
    schema = {
        "type": "object",
        "properties": {"animal": {"type": "string"}, "size": {"type": "string", "enum": ["small", "large"]}},
        "required": ["animal", "size"],
        "additionalProperties": False,
    }
    return Request("Answer briefly.", (Message("user", "Which animal barks?"),), max_tokens=1024, schema=schema)


def kept(reply: Reply) -> bool:
    """Whether the reply to `probe` keeps to its schema."""
    try:
        found: Any = json.loads(reply.text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == {"animal", "size"} and found["size"] in ("small", "large")
