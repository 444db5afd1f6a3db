"""How fast `vistune generate` asks a teacher: the whole pipeline against a local server of a fixed latency.

    python benchmarks/generate_throughput.py [--requests 2000 --concurrency 64 --latency 0.2] [--json FILE]
    python benchmarks/generate_throughput.py --peers curator,datadesigner,distilabel
    python benchmarks/generate_throughput.py --memory

The server (tests/teacher_server.py) runs in a process of its own and answers every request after the latency, so the
ideal is requests / concurrency * latency. Ours is the real command, from reading the annotations to the last file:
each reply is stored, parsed, filtered, compared with all others and written. Seconds, CPU and memory are those of the
command and all processes that it starts, start included. The peers, each in an environment that is made for it
(`--env-dir`), send the same messages to the same kind of server and write the replies to a file as they are; nothing
is cached. `--memory` has a teacher in the process instead and asks it about 10,000 and 1,000,000 images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from peer_environments import ASKERS, Unavailable, environment

from teacher_server import teacher_process

THINGS = (
    "dog", "cat", "chair", "table", "person", "bicycle", "car", "bench", "bottle", "cup", "book", "clock", "vase",
    "bird", "horse", "sheep", "boat",
)  # fmt: skip


def write_annotations(path: Path, images: int) -> None:
    """Images with two captions and three boxes each, in JSON lines; no two alike."""
    with path.open("w") as file:
        for number in range(images):
            a, b, c = (THINGS[number // 17**place % 17] for place in range(3))
            captions = [f"A {a} and a {b} near a {c}, photo {number}.", f"Photo {number} shows a {c} by the {a}."]
            boxes = [
                {"category": name, "bbox": [0.1 * place, 0.2, 0.1 * place + 0.3, 0.7]}
                for place, name in enumerate((a, b, c))
            ]
            row = {"id": str(number), "image": f"{number}.jpg", "captions": captions, "instances": boxes}
            file.write(json.dumps(row) + "\n")


def tree_mb(process: int) -> float:
    """The memory of a process and those it started, pages that they share counted once; 0 where /proc cannot tell."""
    try:
        told = Path(f"/proc/{process}/smaps_rollup").read_text()
        lists = [one.read_text() for one in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:  # it has ended
        return 0.0
    own = sum(int(line.split()[1]) for line in told.splitlines() if line.startswith("Pss:")) / 1024
    return own + sum(tree_mb(int(child)) for children in lists for child in children.split())


def measured(command: list[str], **options: Any) -> dict[str, float]:
    """What a command and the processes it started took: seconds, CPU seconds, peak MB. Raises Unavailable.

    The peak of a single process is exact; that of several together is looked at four times a second.
    """
    start, ended, seen = time.perf_counter(), threading.Event(), [0.0]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=errors, stderr=errors, **options) as process,
    ):

        def look() -> None:
            while not ended.wait(0.25):
                seen.append(tree_mb(process.pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise Unavailable(f"the command failed:\n{errors.read()[-3000:]}")
    peak = max(usage.ru_maxrss / 1024, *seen)
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": peak}


def ask_server(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One sample an image, by the command, from a server in its own process."""
    generate = [sys.executable, "-m", "vistune.cli", "generate", str(folder / "data.jsonl"), "--source", "caps_boxes"]
    generate += [
        "--kinds",
        "conversation=all",
        "--concurrency",
        str(arguments.concurrency),
        "--out",
        str(folder / "out"),
    ]
    with teacher_process(latency=arguments.latency) as url:
        generate += ["--teacher", "openai:teacher-1", "--base-url", f"{url}/v1"]
        figures: dict[str, Any] = measured(generate)
        with urllib.request.urlopen(f"{url}/stats") as reply:
            figures["stats"] = json.load(reply)
    figures["samples"] = json.loads((folder / "out" / "report.json").read_text())["kinds"]["conversation"]
    figures["replies"] = figures["samples"]["asked"] - figures["samples"]["pending"]
    return figures


def ask_peer(peer: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same messages, sent by a peer to a server of the same kind."""
    python, work = environment(peer, arguments.env_dir), folder / peer
    work.mkdir()
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {"HOME": str(work), "TELEMETRY_ENABLED": "0", "NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}
    settings = {"prompts": str(folder / "prompts.jsonl"), "work": str(work), "out": str(work / "replies.jsonl")}
    settings |= {"model": "teacher-1", "concurrency": arguments.concurrency}
    with teacher_process(latency=arguments.latency) as url:
        settings["url"] = f"{url}/v1"
        script = Path(__file__).with_name(f"peer_{peer}.py")
        figures: dict[str, Any] = measured([str(python), str(script), json.dumps(settings)], env=environ)
    if not (work / "replies.jsonl").exists():
        raise Unavailable("it ended without a file of replies")
    texts = [json.loads(line) for line in (work / "replies.jsonl").read_text("utf-8").splitlines()]
    return figures | {"replies": sum(bool(text) for text in texts)}


def write_prompts(folder: Path) -> None:
    """What ours sends about each image, as messages."""
    from vistune.generate.plan import make_plan
    from vistune.sources import open_source

    plan = make_plan(open_source("caps_boxes", folder / "data.jsonl"), {"conversation": 1.0}, 0)
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for request in plan.requests():
            messages = [("system", request.system), *((one.role, one.text) for one in request.messages)]
            row = {"messages": [{"role": role, "content": text} for role, text in messages]}
            file.write(json.dumps(row) + "\n")


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Ours and each peer, one after the other; prints a row each."""
    write_annotations(folder / "data.jsonl", arguments.requests)
    ideal, results = arguments.requests / arguments.concurrency * arguments.latency, {}
    peers = [peer for peer in arguments.peers.split(",") if peer]
    if peers:
        write_prompts(folder)
    print(f"{arguments.requests} requests, {arguments.concurrency} at a time, ideal {ideal:.2f} s\n")
    print("| | seconds | of the ideal | ours is so many times as fast | CPU ms a request | peak MB | replies |")
    print("|---|---|---|---|---|---|---|")
    for one in ("vistune", *peers):
        try:
            figures = ask_server(folder, arguments) if one == "vistune" else ask_peer(one, folder, arguments)
        except Unavailable as error:
            if one == "vistune":
                sys.exit(str(error))
            results[one] = {"unavailable": str(error)}
            print(f"| {one} | not run: {str(error).splitlines()[-1]} | | | | | |", flush=True)
            continue
        figures |= {"ideal": ideal, "share_of_ideal": ideal / figures["seconds"]}
        figures["cpu_ms_per_request"] = 1000 * figures["cpu"] / arguments.requests
        results[one] = figures
        figures["ratio"] = figures["seconds"] / results["vistune"]["seconds"]
        print(
            f"| {one} | {figures['seconds']:.2f} | {100 * figures['share_of_ideal']:.0f} % | {figures['ratio']:.2f} "
            f"| {figures['cpu_ms_per_request']:.2f} | {figures['peak_mb']:.0f} | {figures['replies']} |",
            flush=True,
        )
    return results


def ask_inside(images: int, folder: Path) -> None:
    """The pipeline with a teacher in this process that answers at once; what it takes is memory."""
    from rich.console import Console

    from vistune.generate import GenerateRecipe, generate
    from vistune.llm import Client, Reply, Request

    class Teacher(Client):
        name = "inside"

        async def complete(self, request: Request) -> Reply:
            number = request.record_id
            answer = f"In photo {number} there are several things close to each other, and nothing moves."
            return Reply(f"Question:\nWhat is in photo {number}?\n===\nAnswer:\n{answer}", self.name)

    write_annotations(folder / "data.jsonl", images)
    recipe = GenerateRecipe(data=str(folder / "data.jsonl"), source="caps_boxes", kinds="conversation", concurrency=64)
    generate(recipe, folder / "out", client=Teacher(), console=Console(quiet=True))


def memory(sizes: list[int]) -> list[dict[str, Any]]:
    """A process for each number of images."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(
                {"images": size, **measured([sys.executable, __file__, "--inside", str(size), "--folder", folder])}
            )
        print(f"{size:,} images: {rows[-1]['peak_mb']:.0f} MB at the most, {rows[-1]['seconds']:.0f} s")
    few, many = rows[0], rows[-1]
    growth = (many["peak_mb"] - few["peak_mb"]) * 2**20 / (many["images"] - few["images"])
    print(f"{growth:.0f} bytes of memory more for each image")
    return rows


def main() -> None:
    """Run what the options say and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--peers", default="", help=f"comma-separated: {', '.join(ASKERS)}")
    home = Path.home() / ".cache" / "vistune-bench"
    parser.add_argument("--env-dir", type=Path, default=home, help="where the environments of peers are made")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 1_000_000], help="with --memory: how many")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := {*arguments.peers.split(",")} - {"", *ASKERS}:
        parser.error(f"--peers: unknown: {', '.join(sorted(unknown))}; known: {', '.join(ASKERS)}")
    if arguments.inside:
        ask_inside(arguments.inside, arguments.folder)
        return
    figures: Any
    if arguments.memory:
        figures = memory(arguments.images)
    else:
        with tempfile.TemporaryDirectory() as folder:
            figures = compare(Path(folder), arguments)
        figures = figures.pop("vistune") | {"peers": figures}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
