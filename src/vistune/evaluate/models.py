"""The models that an evaluation can ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image


class Prompt(NamedTuple):
    """A question with its images, each a file or an image in memory."""

    images: tuple[Path | Image.Image, ...]
    text: str


class Answerer(Protocol):
    """A model under evaluation."""

    name: str
    """What people call it."""
    identity: str
    """A hash of what determines its answers: the weights, not a path."""

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices, as each batch is done, in any order."""


def open_model(spec: str) -> Answerer:
    """The model that a spec names: a checkpoint's folder. Raises CheckpointError."""
    return _Checkpoint(Path(spec))


class _Checkpoint:
    def __init__(self, path: Path) -> None:
        from vistune.model.assistant import Assistant

        self._assistant = Assistant.load(path)
        self.name = path.name
        digest = hashlib.sha256()
        for file in sorted(path.glob("*.safetensors")):
            digest.update(file.read_bytes())
        self.identity = digest.hexdigest()

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        yield from enumerate(
            self._assistant.answer(list(prompts), max_new_tokens=max_new_tokens, batch_size=batch_size)
        )
