from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from teacher_server import Teacher, teaching
from vistune.clients import Request
from vistune.generate.kinds import load_kind
from vistune.records import Box, ImageRecord

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of whoever runs the tests stay out of them."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    """A local server without faults."""
    with teaching() as one:
        yield one


def question(number: int = 7, kind: str = "conversation") -> Request:
    """A real request about one of many images, with captions and boxes."""
    boxes = (Box("dog", 0.05, 0.55, 0.45, 0.95), Box("chair", 0.6, 0.3, 0.9, 0.9))
    captions = (f"A dog lies next to chair {number}.", "A brown dog and a chair.")
    made = load_kind(kind, ["captions", "boxes"]).request(
        ImageRecord(str(number), Path("7.jpg"), 640, 480, captions, boxes), seed=0
    )
    assert made is not None
    return made


@pytest.fixture
def asked() -> Request:
    return question()
