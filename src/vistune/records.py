"""The typed records that pass between the stages, and the only things that do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
    """One turn of a conversation; `<image>` in a user's text stands for an image.

    Training learns the answers that are `learned`; the others are only read.
    """

    role: Role
    text: str
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """A training sample: an optional system turn, then user and assistant in turn, and the images (by path).

    The n-th `<image>` of the user's turns, in order, stands for the n-th image; any further ones are text. Of a pair of
    answers, `rejected` is the one that the last turn is preferred to; empty for any other conversation.
    """

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    kind: str = ""
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a benchmark and what an answer is compared with.

    Scores are also given by `type`, the category. `references` are the answers that count as right, or a benchmark's
    other references; `choices` are those of a multiple-choice question, as texts. `details` are further facts that
    the benchmark's score or metrics need.
    """

    id: str
    text: str
    images: tuple[Path, ...] = ()
    type: str = ""
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """What questions about the same image have in common, since the answers to these are not independent."""
        return " ".join(map(str, self.images)) or self.id


@dataclass(frozen=True, slots=True)
class Verdict:
    """The score of an answer: 1 is right and 0 wrong, or it is a benchmark's own number.

    `value` is None for an unscored answer. `answer` is the answer as it was read; `explanation` says how it was read,
    or why it is unscored. `parts` are the numbers that a metric needs besides: counted mentions, a judge's scores.
    """

    value: float | None
    answer: str = ""
    explanation: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
