"""Runs a test's HTTP server in a thread of this process, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any, Protocol, TypeVar, cast

from aiohttp import web


class Server(Protocol):
    """A server that listens once it is started."""

    async def start(self) -> web.AppRunner: ...


S = TypeVar("S", bound=Server)


@contextlib.contextmanager
def in_thread(server: S) -> Iterator[S]:
    """The server, running in a thread of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def in_process(script: str, settings: dict[str, Any]) -> Iterator[str]:
    """The URL that a script prints first; it gets its settings as JSON and is ended afterwards."""
    command = [sys.executable, script, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield cast("IO[str]", process.stdout).readline().strip()
        finally:
            process.terminate()
