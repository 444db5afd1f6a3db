"""A small problem set in ScienceQA's layout: problems with and without hint and image, of three subjects and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

SUBJECTS = ("natural science", "social science", "language science")
COLORS = ("red", "green", "blue")


def problem(number: int, split: str = "test", **changes: Any) -> dict[str, Any]:
    """Problem `number`: every second one has an image of the right colour, every third one a hint."""
    right = number % 3
    return {
        "question": f"Which colour is box {number}?", "choices": list(COLORS), "answer": right,
        "hint": f"The box is {COLORS[right]}." if number % 3 == 0 else "",
        "image": "image.png" if number % 2 == 0 else None, "task": "closed choice", "grade": f"grade{number % 12 + 1}",
        "subject": SUBJECTS[number // 2 % 3], "topic": "colors",
        "lecture": "Boxes have\ncolours." if number % 5 else "",
        "solution": f"Box {number} is {COLORS[right]}.", "split": split, **changes,
    }  # fmt: skip


def write_set(folder: Path, train: int = 8, test: int = 12) -> Path:
    """Write problems.json, pid_splits.json and the images; the ids of the test problems are 101, 102, …."""
    splits = {"train": range(1, train + 1), "test": range(101, 101 + test)}
    problems = {str(n): problem(n, split) for split, numbers in splits.items() for n in numbers}
    for pid, one in problems.items():
        if one["image"]:
            path = folder / "images" / one["split"] / pid / "image.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (28, 28), COLORS[one["answer"]]).save(path)
    folder.mkdir(exist_ok=True)
    (folder / "problems.json").write_text(json.dumps(problems))
    listed = {split: list(map(str, numbers)) for split, numbers in splits.items()}
    (folder / "pid_splits.json").write_text(json.dumps(listed))
    return folder
