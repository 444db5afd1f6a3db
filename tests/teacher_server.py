"""A local teacher: a real HTTP server with the interfaces, the limits and the faults of the ones that cost money.

`python tests/teacher_server.py --latency 0.2 --fault http_500=0.1` prints its URL and serves until it is ended.
In a test:

    with teaching(faults={"http_500": 0.1}) as teacher:   # in a thread of this process
        vistune("generate", "--teacher", f"openai:{teacher.model}", "--base-url", f"{teacher.url}/v1")
        assert teacher.stats()["statuses"]["500"] == 3

    with teacher_process("--latency", "0.2") as url:      # in a process of its own
        ...                                               # GET {url}/stats

`teacher/settings.py` says what it can be told to do; /stats what it counts (`teacher/limits.py`).
It speaks OpenAI's chat completions, models, files and batches below /v1, Azure's chat completions below
/openai/deployments/NAME, and Anthropic's messages at /v1/messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from teacher.batches import Batches
from teacher.desk import Desk
from teacher.settings import Settings, parse
from teacher.wire import Anthropic, OpenAI, Wire


def application(settings: Settings) -> tuple[web.Application, Desk]:
    """The server's routes, and the desk behind them."""
    desk = Desk(settings)
    batches = Batches(desk)
    openai, anthropic = OpenAI(), Anthropic()

    async def chat(request: web.Request) -> web.StreamResponse:
        return await desk.serve(request, openai, request.headers.get("Authorization", "").removeprefix("Bearer "))

    async def azure(request: web.Request) -> web.StreamResponse:
        return await _refused(request, openai, "api-version", request.query) or await desk.serve(
            request, openai, request.headers.get("api-key", "")
        )

    async def messages(request: web.Request) -> web.StreamResponse:
        return await _refused(request, anthropic, "anthropic-version", request.headers) or await desk.serve(
            request, anthropic, request.headers.get("x-api-key", "")
        )

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": settings.model, "object": "model"}]})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(desk.stats.report())

    app = web.Application(client_max_size=2**28)
    app.add_routes(
        [
            web.post("/v1/chat/completions", chat),
            web.post("/v1/messages", messages),
            web.post("/openai/deployments/{name}/chat/completions", azure),
            web.get("/v1/models", models),
            web.post("/v1/files", batches.upload),
            web.get("/v1/files/{name}/content", batches.content),
            web.post("/v1/batches", batches.create),
            web.get("/v1/batches/{name}", batches.poll),
            web.get("/stats", stats),
        ]
    )
    return app, desk


async def _refused(_: web.Request, wire: Wire, name: str, given: Any) -> web.Response | None:
    """A 400 where what the interface insists on is missing."""
    if name in given:
        return None
    return web.json_response(wire.error(400, "missing", f"{name} is missing"), status=400)


async def start(app: web.Application, port: int = 0) -> tuple[web.AppRunner, str]:
    """Serve on this machine only; the runner, whose `cleanup` ends it, and the URL."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@dataclass
class Teacher:
    """A running teacher: where it is, and what it counted so far."""

    url: str
    model: str
    desk: Desk

    def stats(self) -> dict[str, Any]:
        """What /stats reports."""
        return self.desk.stats.report()


@contextlib.contextmanager
def teaching(**settings: Any) -> Iterator[Teacher]:
    """A teacher in a thread of this process; `settings` are those of `teacher.settings.Settings`."""
    given = Settings(**settings)
    app, desk = application(given)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, url = asyncio.run_coroutine_threadsafe(start(app), loop).result()
    try:
        yield Teacher(url, given.model, desk)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def teacher_process(*arguments: str) -> Iterator[str]:
    """A teacher in a process of its own; its URL."""
    command = [sys.executable, str(Path(__file__)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def main() -> None:
    """Serve as the command line says."""
    settings, port = parse()
    app, _ = application(settings)
    runner, url = await start(app, port)
    print(url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
