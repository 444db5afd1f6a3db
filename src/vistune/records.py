"""The typed records that pass between the stages, and the only things that do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["system", "user", "assistant"]
IMAGE_TOKEN = "<image>"
"""The place of the image in a turn's text (LLaVA's format)."""


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

    `width` and `height` are in pixels, 0 where the annotations have none. The image file need not exist: the teacher
    never sees it. `origin` names the annotation file and its record, for error messages.
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
    """A training sample: an optional system turn, then user and assistant in turn, and the images (by path).

    The n-th `<image>` of the user's turns, in order, stands for the n-th image; any further ones are text.
    """

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a benchmark. Scores are grouped by `type`; `seen` is whether training used this wording."""

    id: str
    image: Path
    text: str
    type: str
    reference: str = ""
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right. `correct` is None for an unscored one; `reason` is why, or how it was read."""

    question_id: str
    correct: bool | None
    reason: str = ""
