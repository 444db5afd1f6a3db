"""A judge behind an HTTP server, with the faults of real ones, and a small LLaVA-Bench for it.

`judging` runs it in a thread, `judge_process` in a process. It scores by the marks `quality=N` in the answers, where
both have one.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from local_server import in_process, in_thread
from teacher_server import Teacher
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.llava_bench import LlavaBench
from vistune.evaluate.judges import Judges
from vistune.evaluate.models import Prompt
from vistune.evaluate.results import Scores
from vistune.evaluate.runner import run_benchmarks
from vistune.llm import Client, open_client
from vistune.llm.budget import Limits

FAULTS = ("prose", "one_number", "swapped", "nothing", "http_500")
KINDS = ("conv", "detail", "complex")


class JudgeServer(Teacher):
    """`share` of the pairs meet `fault`, with every request."""

    def __init__(self, *, fault: str = "", share: float = 0.1, latency: float = 0.0) -> None:
        super().__init__(latency=latency)
        self.fault, self.share = fault, share

    def _answer(self, raw: bytes, key: str, *, anthropic: bool = False) -> tuple[int, dict[str, Any], str]:
        failing = self.fault == "http_500" and self.is_faulty(json.loads(raw)["messages"][-1]["content"])
        self.faults = {"http_500": 1.0} if failing else {}
        return super()._answer(raw, key, anthropic=anthropic)

    def is_faulty(self, prompt: str) -> bool:
        """Whether the replies to this prompt are faulty."""
        return bool(self.fault) and Random(prompt).random() < self.share

    def _reply(self, body: dict[str, Any], fault: str, *, anthropic: bool) -> dict[str, Any]:  # noqa: ARG002
        prompt = body["messages"][-1]["content"]
        marks = re.findall(r"quality=(\d+(?:\.\d+)?)", prompt)
        first, second = marks if len(marks) == 2 else ("8", "5")
        text = f"{first} {second}\nThe answers differ."
        if self.is_faulty(prompt):
            text = {
                "prose": "Both answers name 3 dogs and 2 cats.", "one_number": "8", "nothing": "",
                "swapped": f"Assistant 2: {second}\nAssistant 1: {first}",
            }[self.fault]  # fmt: skip
        return {"model": "teacher-1", "choices": [{"message": {"role": "assistant", "content": text}}]}


def judging(**settings: Any) -> AbstractContextManager[JudgeServer]:
    """The server, running in a thread of this process."""
    return in_thread(JudgeServer(**settings))


def judge_process(**settings: Any) -> AbstractContextManager[str]:
    """The URL of a server in a process of its own."""
    return in_process(__file__, settings)


def write_bench(folder: Path, images: int = 30) -> Path:
    """A folder like LLaVA-Bench (COCO), with three questions about each image; the reference's quality is 8."""
    (folder / "images").mkdir(parents=True)
    names = [f"{number:012}.jpg" for number in range(images)]
    contexts = [
        {"id": name[:-4], "image": name, "captions": [f"A dog in {name}."],
         "instances": [{"category": "dog", "bbox": [0.1, 0.2, 0.3, 0.405]}]}
        for name in names
    ]  # fmt: skip
    questions = [
        {"question_id": 3 * number + place, "image": name, "text": f"{kind}?", "category": kind}
        for number, name in enumerate(names)
        for place, kind in enumerate(KINDS)
    ]
    references = [
        {"question_id": one["question_id"], "text": f"quality=8 {'word ' * 50}", "category": one["category"]}
        for one in questions
    ]
    for name in names:
        Image.new("RGB", (8, 8), tuple(Random(name).randbytes(3))).save(folder / "images" / name)
    write_lines(folder / "qa90_questions.jsonl", questions)
    write_lines(folder / "qa90_gpt4_answer.jsonl", references[::-1])  # not in the questions' order
    write_lines(folder / "caps_boxes_coco2014_val_80.jsonl", contexts)
    return folder


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


class Marked:
    """A model under evaluation whose answers have a quality of 4 to 7 by the question's image."""

    name = identity = "marked"

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """An answer to each."""
        assert max_new_tokens >= batch_size
        for index, prompt in enumerate(prompts):
            yield (
                index,
                f"quality={4 + Random(f'{prompt}').randrange(4)} {prompt.text} {Path(str(prompt.images[0])).stem}",
            )


def evaluate_marked(bench: Path, out: Path, clients: Client | str, **options: Any) -> Scores:
    """Evaluate `Marked` with judges, clients or the URL of a server of this file."""
    judge = open_client("openai:teacher-1", base_url=f"{clients}/v1") if isinstance(clients, str) else clients
    judges = Judges([judge], out, Limits(attempts=2, retries=options.pop("retries", 0)))
    with judges.opened():
        return run_benchmarks(
            Marked(), {"llava_bench": LlavaBench(Setting(bench, options=options, judges=judges))}, out
        )


if __name__ == "__main__":
    with judging(**json.loads(sys.argv[1])) as served:
        print(served.url, flush=True)
        threading.Event().wait()
