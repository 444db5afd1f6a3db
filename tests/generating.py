"""Runs of the real command with the local teacher, for the tests of `vistune generate`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import vistune

THINGS = ("dog", "cat", "chair", "table", "person", "bicycle", "car", "bench", "bottle", "cup", "book", "clock", "vase")
FILES = ("instruct.json", "align.json", "provenance.jsonl", "rejected.jsonl", "report.json")


def annotations(folder: Path, images: int) -> Path:
    """Captions and boxes of a number of images, no two alike."""
    path = folder / "data.jsonl"
    rows = []
    for number in range(images):
        a, b, c = (THINGS[number // 13**place % 13] for place in range(3))
        captions = [f"A {a} and a {b} near a {c}, photo {number}.", f"Photo {number} shows a {c} by the {a}."]
        boxes = [{"category": one, "bbox": [0.2 * n, 0.2, 0.2 * n + 0.3, 0.7]} for n, one in enumerate((a, b, c))]
        rows.append(json.dumps({"id": str(number), "image": f"{number}.jpg", "captions": captions, "instances": boxes}))
    path.write_text("\n".join(rows) + "\n")
    return path


def command(data: Path, url: str, out: Path, *options: str) -> list[str]:
    """The command line for one kind of data from the teacher at `url`."""
    kinds = () if "--kinds" in options else ("--kinds", "conversation=all")
    return [
        sys.executable, "-m", "vistune.cli", "generate", str(data), "--source", "caps_boxes", "--teacher",
        "openai:teacher-1", "--base-url", f"{url}/v1", "--out", str(out), *kinds, *options,
    ]  # fmt: skip


def start(line: list[str], **environment: str) -> subprocess.Popen[str]:
    """The command as a process, with its output piped."""
    given = {**os.environ, "PYTHONPATH": str(Path(vistune.__file__).parents[1]), **environment}
    return subprocess.Popen(line, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(line: list[str], code: int = 0, **environment: str) -> str:
    """What the command prints, errors included; it must exit with `code`."""
    process = start(line, **environment)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-2000:]
    return out + errors


def report(out: Path) -> dict[str, Any]:
    """The run's report; its sums are right."""
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    for one in (found, *found["kinds"].values()):
        assert one["accepted"] + one["filtered"] + one["quarantined"] + one["pending"] == one["asked"]
    return found


def contents(out: Path) -> dict[str, bytes]:
    """The files that do not depend on the course of the run."""
    return {name: (out / name).read_bytes() for name in FILES}
