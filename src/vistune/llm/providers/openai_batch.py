"""OpenAI's batches: a file of requests and a file of replies within a day, at half the price.

Format: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from vistune.errors import ClientError
from vistune.llm.client import Reply, Request, RequestError, Send
from vistune.llm.faults import fault
from vistune.llm.http import Http
from vistune.llm.providers import providers
from vistune.llm.providers.openai import OPENAI, OpenAIClient, connect, read_reply

_IDLE = 0.3
"""Seconds without a new request after which an incomplete batch is sent."""
_MAX_BYTES = 150 * 2**20  # OpenAI accepts 200 MB
_FIRST_PAUSE, _MAX_PAUSE = 0.5, 60.0
"""Seconds between two polls."""
_ENDED = ("completed", "failed", "expired", "cancelled")

_Replies = Mapping[str, Reply | Exception]


class BatchClient(OpenAIClient):
    """Gathers requests into batches of up to `size`, and waits for the replies.

    The id of a batch is written to `file` before its replies are awaited: after a kill the next run finds its requests
    there and waits for the same batches, instead of paying again.
    """

    def __init__(self, model: str, http: Http, file: Path | None = None, size: int = 1_000) -> None:
        super().__init__(model, http)
        self.concurrency = size
        self._file = file
        self._known = self._read_file()
        self._waiting: dict[str, tuple[Request, asyncio.Future[Reply]]] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._batches: dict[str, asyncio.Task[_Replies]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        for task in [*self._tasks, *self._batches.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._batches.values(), return_exceptions=True)
        self._tasks.clear()
        self._batches.clear()
        self._waiting.clear()
        self._known = self._read_file()
        await super().__aexit__(kind, error, trace)

    async def supports_schema(self, send: Send | None = None) -> bool:  # noqa: ARG002
        """False: a test would take a whole batch, and the text format works with every model."""
        return False

    async def complete(self, request: Request) -> Reply:
        """The reply, when its batch has ended. Raises RequestError if the batch has no reply to this request."""
        key = request.key(self.name)
        if batch := self._known.pop(key, None):  # once: after a fault it goes into a new batch
            replies = await asyncio.shield(self._watch(batch))
            if key in replies:
                return _reply_or_raise(replies[key])
        if key not in self._waiting:
            self._waiting[key] = (request, asyncio.get_running_loop().create_future())
            self._bytes += len(request.system) + sum(len(message.text) for message in request.messages)
        future = self._waiting[key][1]
        if len(self._waiting) >= self.concurrency or self._bytes > _MAX_BYTES:
            self._send()
        else:
            self._send_soon()
        return await asyncio.shield(future)

    def _send_soon(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_IDLE, self._send)

    def _send(self) -> None:
        """Send the waiting requests as a batch."""
        if self._timer:
            self._timer.cancel()
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        if waiting:
            task = asyncio.create_task(self._resolve(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _resolve(self, waiting: Mapping[str, tuple[Request, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._watch(await self._create({key: request for key, (request, _) in waiting.items()}))
        except Exception as error:
            replies = dict.fromkeys(waiting, error)
        for key, (_, future) in waiting.items():
            reply = replies.get(key, RequestError("expired", "the batch ended without a reply to this request"))
            if future.done():
                continue
            if isinstance(reply, Reply):
                future.set_result(reply)
            else:
                future.set_exception(reply)

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
        order = {"input_file_id": upload["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        name = str((await self.http.post("/batches", order))["id"])
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"batch": name, "keys": list(requests)}) + "\n")
        return name

    def _read_file(self) -> dict[str, str]:
        """The last batch of each key. A line that a kill left incomplete is skipped."""
        known: dict[str, str] = {}
        if self._file and self._file.exists():
            for line in self._file.read_text("utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                known |= dict.fromkeys(row["keys"], row["batch"])
        return known

    def _watch(self, name: str) -> asyncio.Task[_Replies]:
        if name not in self._batches:
            self._batches[name] = asyncio.create_task(self._wait(name))
        return self._batches[name]

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
                for line in (await self.http.raw("GET", f"/files/{file}/content")).splitlines():
                    row = json.loads(line)
                    replies[row["custom_id"]] = self._read(row)
        return replies

    def _read(self, row: Mapping[str, Any]) -> Reply | Exception:
        response = row.get("response") or {}
        try:
            if response.get("status_code") == 200:
                return read_reply(response["body"], self.name, self.http.where)
        except (RequestError, ClientError) as error:
            return error
        body = response.get("body") or {"error": row.get("error") or "no response"}
        return fault(int(response.get("status_code") or 500), body, {}, self.http.where)


def _reply_or_raise(reply: Reply | Exception) -> Reply:
    if isinstance(reply, Reply):
        return reply
    raise reply


def _errors(state: Mapping[str, Any]) -> str:
    rows = (state.get("errors") or {}).get("data") or []
    return "; ".join(str(row.get("message", row)) for row in rows[:3]) or "without a reason"


@providers.register("batch")
def batch(
    model: str,
    *,
    base_url: str = OPENAI,
    key_env: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 600.0,
    sends: bool = True,
    folder: Path | None = None,
    size: int = 1_000,
) -> BatchClient:
    """A client of OpenAI's batches, with the options of `vistune.llm.providers.openai`.

    The ids of batches are kept in `folder`; `size` is the maximum number of requests in a batch.
    """
    file = folder / "batches.jsonl" if folder else None
    return BatchClient(model, connect(base_url, key_env, headers, timeout, sends), file, size)
