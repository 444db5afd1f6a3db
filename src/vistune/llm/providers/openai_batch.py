"""OpenAI's batches: requests go in a file and the replies come in another, within a day, for half the price.

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

_QUIET = 0.3
"""Seconds without a new request after which a batch is sent that is not full."""
_BYTES = 150 * 2**20  # OpenAI takes 200 MB
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_OVER = ("completed", "failed", "expired", "cancelled")

_Replies = Mapping[str, Reply | Exception]


class BatchClient(OpenAIClient):
    """Gathers requests into batches of up to `size`, and waits for the replies.

    The ids of batches are noted in the file `noted`, before anything is waited for: a run that was killed finds its
    requests there and waits for the same batches, instead of paying again.
    """

    def __init__(self, model: str, http: Http, noted: Path | None = None, size: int = 1_000) -> None:
        super().__init__(model, http)
        self.concurrency = size
        self._noted = noted
        self._known = self._read_notes()
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
        self._known = self._read_notes()
        await super().__aexit__(kind, error, trace)

    async def supports_schema(self, send: Send | None = None) -> bool:  # noqa: ARG002
        """False: to ask would take a batch. The text format costs nothing but a little more to read."""
        return False

    async def complete(self, request: Request) -> Reply:
        """The reply, when its batch is over. Raises RequestError for a request that got none there."""
        key = request.key(self.name)
        if batch := self._known.pop(key, None):  # once: asked again after a fault it goes into a new batch
            found = await asyncio.shield(self._watch(batch))
            if key in found:
                return _told(found[key])
        if key not in self._waiting:
            self._waiting[key] = (request, asyncio.get_running_loop().create_future())
            self._bytes += len(request.system) + sum(len(message.text) for message in request.messages)
        future = self._waiting[key][1]
        if len(self._waiting) >= self.concurrency or self._bytes > _BYTES:
            self._send()
        else:
            self._send_soon()
        return await asyncio.shield(future)

    def _send_soon(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_QUIET, self._send)

    def _send(self) -> None:
        """Send what waits as a batch, and resolve it when that is over."""
        if self._timer:
            self._timer.cancel()
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        if waiting:
            task = asyncio.create_task(self._answer(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, waiting: Mapping[str, tuple[Request, asyncio.Future[Reply]]]) -> None:
        try:
            found = await self._watch(await self._create({key: request for key, (request, _) in waiting.items()}))
        except Exception as error:
            found = dict.fromkeys(waiting, error)
        for key, (_, future) in waiting.items():
            reply = found.get(key, RequestError("expired", "the batch ended without a reply to this"))
            if future.done():
                continue
            if isinstance(reply, Reply):
                future.set_result(reply)
            else:
                future.set_exception(reply)

    async def _create(self, requests: Mapping[str, Request]) -> str:
        """Upload the requests and begin a batch of them; its id is noted."""
        rows = (
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": self.body(request)}
            for key, request in requests.items()
        )
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content, filename="requests.jsonl", content_type="application/jsonl")
        file, _ = await self.http.json("POST", "/files", data=form)
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made, _ = await self.http.post("/batches", json.dumps(asked).encode())
        name = str(made["id"])
        if self._noted:
            self._noted.parent.mkdir(parents=True, exist_ok=True)
            with self._noted.open("a", encoding="utf-8") as notes:
                notes.write(json.dumps({"batch": name, "keys": list(requests)}) + "\n")
        return name

    def _read_notes(self) -> dict[str, str]:
        """The last batch that each key was sent in. A line that a killed run left unfinished is passed over."""
        known: dict[str, str] = {}
        if self._noted and self._noted.exists():
            for line in self._noted.read_text("utf-8").splitlines():
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
        """The replies of a batch by their requests' keys, when it is over."""
        pause = _FIRST_PAUSE
        while True:
            try:
                state, _ = await self.http.json("GET", f"/batches/{name}")
            except RequestError as error:
                if not error.retry:
                    raise
                state = {}
            if state.get("status") in _OVER:
                break
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.5 * pause)
        if state["status"] == "failed":
            raise ClientError(f"the batch was refused: {_errors(state)}", where=self.http.where, fix="see its words")
        found: dict[str, Reply | Exception] = {}
        for kind in ("output_file_id", "error_file_id"):
            if file := state.get(kind):
                content, _ = await self.http.raw("GET", f"/files/{file}/content")
                for line in content.splitlines():
                    row = json.loads(line)
                    found[row["custom_id"]] = self._read(row)
        return found

    def _read(self, row: Mapping[str, Any]) -> Reply | Exception:
        answer = row.get("response") or {}
        try:
            if answer.get("status_code") == 200:
                return read_reply(answer["body"], self.name, self.http.where)
        except (RequestError, ClientError) as error:
            return error
        body = answer.get("body") or {"error": row.get("error") or "no response"}
        return fault(int(answer.get("status_code") or 500), body, {}, self.http.where)


def _told(reply: Reply | Exception) -> Reply:
    if isinstance(reply, Reply):
        return reply
    raise reply


def _errors(state: Mapping[str, Any]) -> str:
    rows = (state.get("errors") or {}).get("data") or []
    return "; ".join(str(row.get("message", row)) for row in rows[:3]) or "no reason is given"


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
    """A client of OpenAI's batches; see `vistune.llm.providers.openai`. Batches are noted in `folder`."""
    noted = folder / "batches.jsonl" if folder else None
    return BatchClient(model, connect(base_url, key_env, headers, timeout, sends), noted, size)
