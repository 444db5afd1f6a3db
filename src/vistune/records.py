"""The typed records that pass between the stages; nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
IMAGE_TOKEN = "<image>"
"""Stands in a turn's text for the image's tokens (LLaVA's format)."""


@dataclass(frozen=True, slots=True)
class Box:
    """One annotated object: its category and its corners in fractions of the image's size (0 to 1)."""

    category: str
    x1: float
    y1: float
    x2: float
    y2: float
    crowd: bool = False

    @property
    def center(self) -> tuple[float, float]:
        """The box's centre (x, y), in fractions of the image's size."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    @property
    def area(self) -> float:
        """The share of the image that the box covers."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the text-only teacher sees it: captions and boxes.

    `width` and `height` are in pixels, 0 where the annotations do not say. The image file need not be there, for the
    teacher never sees it. `origin` names the annotation file and record it came from, for error messages.
    """

    id: str
    image: Path
    width: int = 0
    height: int = 0
    captions: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation; `<image>` in a user's text stands for an image."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A training sample: alternating turns, user first, a system's before them at most, and its images (by path).

    The n-th `<image>` of the user's turns, in order, stands for the n-th image; any further ones are text.
    """

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    kind: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a benchmark. `type` groups the scores, `seen` says if training used its wording."""

    id: str
    image: Path
    text: str
    type: str
    reference: str = ""
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a question."""

    question_id: str
    prompt: str
    text: str
    model_id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right; `reason` says why it is unscored (`correct` is None) or how it was read."""

    question_id: str
    correct: bool | None
    reason: str = ""
