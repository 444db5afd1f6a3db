"""A real server of a checkpoint in a thread of this process, for tests."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from PIL import Image

from vistune.serve.app import build_app
from vistune.serve.engine import Engine
from vistune.serve.jobs import Limits
from vistune.serve.service import ServerOptions

KEY = "a-secret-key"


@dataclass
class Server:
    url: str
    engine: Engine

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | headers
        return httpx.post(f"{self.url}/v1/chat/completions", content=content, headers=headers, timeout=60)


@contextmanager
def serving(checkpoint: Path | str, limits: Limits, page: Any = None, **options: Any) -> Iterator[Server]:
    with Engine.load(checkpoint, "cpu", limits=limits) as engine:
        app = build_app(engine, ServerOptions(**({"name": "tiny", "api_key": KEY} | options)), page)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Server(f"http://127.0.0.1:{port}", engine)
        server.should_exit = True
        thread.join()


def data_url(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()


def wait(ready: Callable[[], bool]) -> None:
    for _ in range(1000):
        if ready():
            return
        time.sleep(0.005)
    pytest.fail("it has not happened within 5 seconds")
