"""OpenAI's batches: a file of requests and a file of replies within a day, at half the price.

Format: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from vistune.errors import ClientError
from vistune.llm.client import Reply, Request, RequestError, Send
from vistune.llm.faults import fault, load_json
from vistune.llm.providers import providers
from vistune.llm.providers.openai import OpenAIClient
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE, read_text
from vistune.storage import append_text

_IDLE = 0.3
"""Seconds without a new request after which an incomplete batch is sent."""
_MAX_CHARACTERS = 150 * 2**20  # OpenAI accepts files of 200 MB
_IMAGE_CHARACTERS = 500_000
"""About the maximum of an image of 1024 pixels as a data URL."""
_MAX_FILE = 512 * 2**20
"""Bytes of the largest file of replies."""
_FIRST_PAUSE, _MAX_PAUSE = 0.5, 60.0
"""Seconds between two polls."""
_ENDED = ("completed", "failed", "expired", "cancelled")

_Replies = Mapping[str, Reply | Exception]


@providers.register("batch")
class BatchClient(OpenAIClient):
    """Gathers requests into batches of up to `size`, and waits for the replies.

    The id of a batch is written to a file in `folder` before its replies are awaited: after a kill the next run finds
    its requests there and waits for the same batches, instead of paying again.
    """

    def __init__(
        self, model: str, *, base_url: str | None = None, key_env: str | None = None,
        headers: Mapping[str, str] | None = None, timeout: float = 600.0, sends: bool = True,
        folder: Path | None = None, size: int = 1_000,
    ) -> None:  # fmt: skip
        super().__init__(model, base_url=base_url, key_env=key_env, headers=headers, timeout=timeout, sends=sends)
        self.concurrency = size
        self._file = folder / "batches.jsonl" if folder else None
        self._earlier: dict[str, str] = {}  # batches of earlier runs, by request
        self._waiting: dict[str, Request] = {}
        self._characters = 0
        self._gathering: asyncio.Task[_Replies]
        self._tasks: dict[str, asyncio.Task[_Replies]] = {}  # by the id of an earlier batch, the first key of a new one

    async def __aenter__(self) -> Self:
        self._earlier, self._waiting, self._tasks = self._read_file(), {}, {}
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await super().__aexit__(*error)

    async def supports_schema(self, send: Send | None = None) -> bool:  # noqa: ARG002
        """False: a test would take a whole batch, and the text format works with every model."""
        return False

    async def complete(self, request: Request) -> Reply:
        """The reply, when its batch has ended. Raises RequestError if the batch has no reply to this request."""
        key = request.key(self.name)
        replies: _Replies = {}
        if batch := self._earlier.pop(key, None):  # once: after a fault it goes into a new batch
            if batch not in self._tasks:
                self._tasks[batch] = asyncio.create_task(self._wait(batch))
            replies = await asyncio.shield(self._tasks[batch])
        if key not in replies:
            replies = await asyncio.shield(self._add(key, request))
        reply = replies.get(key, RequestError("expired", "the batch ended without a reply to this request"))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _add(self, key: str, request: Request) -> asyncio.Task[_Replies]:
        """Add the request to the batch that is being gathered; returns the task that will have the replies."""
        if not self._waiting:
            self._characters = 0
            self._tasks[key] = self._gathering = asyncio.create_task(self._gather(self._waiting))
        self._waiting[key] = request
        self._characters += len(request.system) + sum(len(message.text) for message in request.messages)
        self._characters += _IMAGE_CHARACTERS * len(request.images)
        if len(self._waiting) >= self.concurrency or self._characters > _MAX_CHARACTERS:
            self._waiting = {}  # the next request starts another batch
        return self._gathering

    async def _gather(self, waiting: Mapping[str, Request]) -> _Replies:
        """Send the requests when the batch is full or no new one came for a while; their replies."""
        count = 0
        while waiting is self._waiting and count < len(waiting):
            count = len(waiting)
            await asyncio.sleep(_IDLE)
        if waiting is self._waiting:
            self._waiting = {}
        return await self._wait(await self._create(waiting))

    async def _create(self, requests: Mapping[str, Request]) -> str:
        """Upload the requests and start a batch of them; its id is written to the file."""
        rows = (
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": self.body(request)}
            for key, request in requests.items()
        )
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content, filename="requests.jsonl", content_type="application/jsonl")
        upload = await self.http.json("POST", "/files", data=form)
        order = {"input_file_id": _id(upload), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        name = _id(await self.http.json("POST", "/batches", json=order))
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            append_text(self._file, json.dumps({"batch": name, "keys": list(requests)}) + "\n")
        return name

    def _read_file(self) -> dict[str, str]:
        """The last batch of each key. A line that a kill left incomplete is skipped."""
        known: dict[str, str] = {}
        if self._file and self._file.exists():
            for row in map(load_json, read_text(self._file, ClientError).splitlines()):
                if isinstance(row, dict) and row.keys() >= {"keys", "batch"}:
                    known |= dict.fromkeys(row["keys"], row["batch"])
        return known

    async def _wait(self, name: str) -> _Replies:
        """The replies of a batch by their requests' keys, when it has ended."""
        pause = _FIRST_PAUSE
        while True:
            try:
                state = await self.http.json("GET", f"/batches/{name}")
            except RequestError as error:
                if not error.retry:
                    raise
                state = {}
            if state.get("status") in _ENDED:
                break
            await asyncio.sleep(pause)
            pause = min(_MAX_PAUSE, 1.5 * pause)
        if state["status"] == "failed":
            fix = "see the server's message"
            raise ClientError(f"the batch was refused: {_errors(state)}", where=self.http.where, fix=fix)
        replies: dict[str, Reply | Exception] = {}
        for kind in ("output_file_id", "error_file_id"):
            if file := state.get(kind):
                content = await self.http.raw("GET", f"/files/{file}/content", most=_MAX_FILE)
                for row in map(load_json, content.splitlines()):
                    if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
                        replies[row["custom_id"]] = self._read_row(row)
        return replies

    def _read_row(self, row: Mapping[str, Any]) -> Reply | Exception:
        response = row.get("response")
        response = response if isinstance(response, dict) else {}
        try:
            if response.get("status_code") == 200:
                return self.read(response["body"])
        except (RequestError, ClientError) as error:
            return error
        except WRONG_TYPE as error:
            return RequestError("not_a_reply", f"{NOT_IN_FORMAT}: {error}", billed=True)
        body = response.get("body") or {"error": row.get("error") or "no response"}
        status = response.get("status_code")
        return fault(status if isinstance(status, int) else 500, body, {}, self.http.where)


def _id(body: Mapping[str, Any]) -> str:
    """The id of what the server made. Raises RequestError if its response has none."""
    if not isinstance(body.get("id"), str):
        raise RequestError("not_a_reply", "the response has no id", billed=True)
    return str(body["id"])


def _errors(state: Mapping[str, Any]) -> str:
    errors = state.get("errors")
    rows = errors.get("data") if isinstance(errors, dict) else None
    messages = [str(row.get("message", row) if isinstance(row, dict) else row) for row in rows or ()]
    return "; ".join(messages[:3]) or "without a reason"
