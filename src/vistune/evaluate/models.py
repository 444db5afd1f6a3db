"""The models that an evaluation can ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from PIL import Image

if TYPE_CHECKING:
    from vistune.model.assistant import Assistant


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
    from vistune.model.assistant import Assistant

    path = Path(spec)
    return Checkpoint(Assistant.load(path), path.name, identity=weights_hash(path))


def weights_hash(folder: Path) -> str:
    """The SHA-256 of a checkpoint's weights."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


class Checkpoint:
    """An assistant under evaluation; see `Answerer`."""

    def __init__(self, assistant: Assistant, name: str, identity: str) -> None:
        self._assistant, self.name, self.identity = assistant, name, identity

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices."""
        yield from self._assistant.answers(prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
