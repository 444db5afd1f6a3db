"""Malformed requests, clients without the key, many at once, and clients that leave, against `vistune serve`.

    python benchmarks/serve_fuzz.py --requests 10000

The server has a tiny checkpoint made on the spot. The benchmark fails if a malformed request gets a 5xx or an answer
with a traceback, a path or a part of what it sent. `tests/serve` sends a few hundred of the same requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from PIL import Image

KEY = "the-key-of-the-benchmark"
SECRET = "Xq7SECRET"
"""Stands in the values of malformed requests: no error may repeat it."""
LEAKS = (SECRET, "Traceback", "site-packages", "/etc/", 'File "', "iVBOR")
PAGE = ("/gradio_api/queue/join", "/gradio_api/call/chat", "/gradio_api/run/predict", "/gradio_api/upload",
        "/gradio_api/queue/cancel", "/gradio_api/reset", "/gradio_api/component_server", "/gradio_api/api/predict",
        "/gradio_api/cancel")  # fmt: skip
GETS = ("/theme.css", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd",
        "/config", "/gradio_api/stream/x/1/1/playlist.m3u8", "/v1/models/../../etc/passwd", "/v1/models/x", "/metrics",
        "/docs", "/openapi.json", "/assets/../../x", "/%00", "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/queue/status", "/file=/etc/passwd", "/monitoring", "/login",
        "/gradio_api/runs")  # fmt: skip
OPEN = ("/", "/v1/models", "/v1/models/model", "/v1/chat/completions", "/metrics", "/docs", "/redoc", "/openapi.json",
        "/health/", "//health", "/v1/health", "/HEALTH", *PAGE, *GETS)  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1e308, "", SECRET, SECRET * 500, [], [[]], {}, {"a": {"b": [SECRET]}}, [SECRET] * 50,
    "\x00", "\ud800", "<image>", "http://127.0.0.1/", "file:///etc/passwd", "../../etc/passwd", "{{ 7*7 }}",
    "data:image/png;base64,", f"data:image/png;base64,{SECRET}", [None], "NaN", 3.7, [{}], [[SECRET]],
)  # fmt: skip
NAMES = ("temprature", "tools", "functions", "__class__", "best_of", "logit_bias", "guided_json", "response_format",
         "seed", "n", "stop", "stream", "stream_options", "audio", "a" * 300)  # fmt: skip


@dataclass(frozen=True)
class Malformed:
    """A request that is wrong in some way, or may be."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def malformed(seed: int, count: int) -> Iterator[Malformed]:
    """That many requests, the same for the same seed."""
    rng = random.Random(seed)
    image = _image(rng)
    for _ in range(count):
        kind = rng.random()
        if kind < 0.5:
            yield Malformed("POST", "/v1/chat/completions", _json(_changed(rng, _valid(rng, image))))
        elif kind < 0.65:
            yield Malformed("POST", "/v1/chat/completions", _cut(rng, _json(_valid(rng, image))))
        elif kind < 0.7:
            body = _json(_valid(rng, image))
            kinds = ("text/plain", "multipart/form-data", "application/xml", "", "application/json; charset=x")
            yield Malformed("POST", "/v1/chat/completions", body, {"Content-Type": rng.choice(kinds)})
        elif kind < 0.75:
            method = rng.choice(("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "GET", "TRACE"))
            yield Malformed(method, rng.choice(("/v1/chat/completions", "/v1/models", "/health", "/", *PAGE)))
        elif kind < 0.85:
            yield Malformed("GET", rng.choice(GETS))
        else:
            data = {"data": [rng.choice(JUNK)], "fn_index": rng.choice(JUNK), "session_hash": rng.choice(("x", SECRET)),
                    "event_data": rng.choice(JUNK)}  # fmt: skip
            body = rng.choice((_json(data), _json(rng.choice(JUNK)), _cut(rng, _json(data)), rng.randbytes(40)))
            yield Malformed("POST", rng.choice(PAGE), body)


def _image(rng: random.Random) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (8, 8), rng.randbytes(192)).save(file, "PNG")
    return file.getvalue()


def _valid(rng: random.Random, image: bytes) -> dict[str, Any]:
    content = image if rng.random() < 0.5 else _cut(rng, image)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(content).decode()}}
    return {
        "model": "model", "max_tokens": 1, "temperature": 0, "stream": rng.random() < 0.2, "stop": ["x"], "n": 1,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [part, {"type": "text", "text": "w1 w2"}]},
        ],
    }  # fmt: skip


def _changed(rng: random.Random, body: dict[str, Any]) -> Any:
    """The body with one to three values replaced, removed, or added."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(body))
        holder, key = rng.choice(places)
        change = rng.random()
        if change < 0.6:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
        elif change < 0.8 and isinstance(holder, dict):
            holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice(JUNK))
        elif len(places) > 1:
            del holder[key]
        if not body:
            break
    return body


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from _places(value)


def _cut(rng: random.Random, content: bytes) -> bytes:
    """The bytes cut off, or with a few of them replaced."""
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def send(session: aiohttp.ClientSession, url: str, request: Malformed) -> tuple[int, str]:
    """The status of the answer, and what is wrong with it: a 5xx, a leak, or no answer."""
    from yarl import URL

    address = URL(url + request.path, encoded=True)
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with session.request(
            request.method, address, data=request.body, headers=request.headers, timeout=timeout
        ) as response:
            text = (await response.read()).decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return 0, f"no answer: {type(error).__name__}"
    if response.status >= 500 and response.status != 503:
        return response.status, f"status {response.status}"
    leak = next((one for one in LEAKS if response.status >= 400 and one in text), None)
    return response.status, f"the error repeats {leak!r}" if leak else ""


async def attack(url: str, key: str, requests: Iterator[Malformed]) -> tuple[Counter[int], list[str]]:
    """Send all requests, 16 at a time; how many answers have each status, and what is wrong with any."""
    statuses: Counter[int] = Counter()
    wrong: list[str] = []

    async def client(session: aiohttp.ClientSession) -> None:
        for request in requests:
            status, what = await send(session, url, request)
            statuses[status] += 1
            if what:
                wrong.append(f"{what}: {request.method} {request.path} {request.headers} {request.body[:300]!r}")

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        await asyncio.gather(*(client(session) for _ in range(16)))
    return statuses, wrong


async def without_key(url: str) -> list[str]:
    """The routes that answer a client without the key, or with a wrong one, with another status than 401."""
    found = []
    async with aiohttp.ClientSession() as session:
        for path in OPEN:
            for method in ("GET", "POST"):
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic Ondyb25n"}):
                    status, _ = await send(session, url, Malformed(method, path, b"{}", headers))
                    if status != 401:
                        found.append(f"{method} {path}: {status}")
    return found


async def crowd(url: str, key: str, clients: int) -> Counter[int]:
    """The statuses of requests sent at once."""
    rng = random.Random(1)
    bodies = [_valid(rng, _image(rng)) | {"max_tokens": 20, "stream": False} for _ in range(clients)]
    for number, body in enumerate(bodies):
        body["messages"][1]["content"] = f"w{number}"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        requests = [Malformed("POST", "/v1/chat/completions", _json(body), headers) for body in bodies]
        return Counter(status for status, _ in await asyncio.gather(*(send(session, url, one) for one in requests)))


async def leave(url: str, key: str, clients: int) -> float:
    """The seconds from when clients of unfinished streams, and of whole answers, are gone until nothing is written."""
    body = {"messages": [{"role": "user", "content": "w1"}], "max_tokens": 1500}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        slowest = 0.0
        for first in range(0, clients, 10):
            tasks = [asyncio.create_task(_stay(session, url, body | {"stream": number % 2 == 0}))
                     for number in range(first, first + 10)]  # fmt: skip
            while await _running(session, url) < 10:
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            start = time.perf_counter()
            while await _running(session, url):
                await asyncio.sleep(0.02)
            slowest = max(slowest, time.perf_counter() - start)
    return slowest


async def _stay(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        await response.read()


async def _running(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return int(values["vistune_running_sequences"]) + int(values["vistune_waiting_sequences"])


def main() -> None:
    """Start the server, do all four, print the table."""
    from eval_throughput import EVAL_SHAPES, make_model
    from serve_servers import SERVERS, serving

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_model(EVAL_SHAPES["tiny"], Path(name))
        with serving(SERVERS["vistune serve"], Path(name) / "model", "--api-key", KEY) as (address, process):
            url, server = address.removesuffix("/v1"), psutil.Process(process.pid)
            asyncio.run(attack(url, KEY, malformed(0, 1_000)))  # the memory of all that is loaded only once
            before = server.memory_info().rss
            statuses, wrong = asyncio.run(attack(url, KEY, malformed(1, arguments.requests)))
            growth = server.memory_info().rss / before - 1
            unlocked = asyncio.run(without_key(url))
            answered = asyncio.run(crowd(url, KEY, 64))
            slowest = asyncio.run(leave(url, KEY, 100))
    print("| | |\n|---|---|")
    print(f"| malformed requests, by status | {_counts(statuses)} |")
    print(f"| 5xx, leaks, no answer | {len(wrong)} |")
    print(f"| growth of memory, from {before / 2**20:.0f} MB | {growth:.1%} |")
    print(f"| routes open without the key, of {len(OPEN)} | {len(unlocked)} |")
    print(f"| 64 clients at once, by status | {_counts(answered)} |")
    print(f"| 100 clients that leave, 10 at a time: slowest end, s | {slowest:.2f} |")
    if problems := [*wrong[:20], *unlocked]:
        sys.exit("\n".join(problems))


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))


if __name__ == "__main__":
    main()
