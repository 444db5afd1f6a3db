from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from vistune.llm import Client, Reply, Request
from vistune.records import Box, ImageRecord
from vistune.scene.context import parse_context


class RuleTeacher(Client):
    """Writes a good reply to most requests, a bad one to some, by the seed; counts what it is asked."""

    name = "rule"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def complete(self, request: Request) -> Reply:
        self.asked.append((request.record_id, request.kind))
        captions, _ = parse_context(request.query)
        match request.seed % 7:
            case 0:
                return Reply("Here you are: a dog.\n===", self.name)
            case 1:
                return Reply(
                    "Question:\nWhat?\n===\nAnswer:\nThe caption says: I'm sorry, a dog, as it is told.", self.name
                )
        answer = f"There is {len(captions)} times as much to see here as in other pictures."
        if request.kind == "detail":
            return Reply(answer, self.name, {"output": len(answer)})
        pairs = [f"Question:\nWhat is number {n}?\n===\nAnswer:\n{answer}" for n in range(1 + request.seed % 3)]
        return Reply("\n===\n".join(pairs[: 1 if request.kind == "reasoning" else 3]), self.name)


@pytest.fixture
def records() -> list[ImageRecord]:
    boxes = (Box("dog", 0.1, 0.2, 0.3, 0.4),)
    captions = ("A dog on a rug.", "A brown dog.")
    return [ImageRecord(f"{n:04}", Path(f"/i/{n % 3}/{n}.jpg"), 64, 48, captions, boxes) for n in range(120)]


@pytest.fixture
def teacher() -> RuleTeacher:
    return RuleTeacher()


@pytest.fixture
def quiet() -> Console:
    """A console that is no terminal."""
    return Console(file=io.StringIO())
