"""Sequences on their way through the engine, and what bounds and counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vistune.errors import DataError
from vistune.serve.answer_text import AnswerText, TokenText
from vistune.serve.images import Picture
from vistune.serve.sampling import Sampler, Sampling
from vistune.serve.slots import Row
from vistune.serve.structured import Grammar

End = Literal["stop", "length", "timeout", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine accepts.

    `batch` sequences run, `queue` more wait, `seconds` each for waiting and writing. A sequence has at most `length`
    tokens with its prompt, `cache_bytes` is the memory for keys and values (None: half of what is free).
    """

    batch: int = 16
    queue: int = 64
    length: int = 4096
    seconds: float = 300.0
    cache_bytes: int | None = None


class ContextLengthError(DataError):
    """A prompt leaves no place for an answer."""


class QueueFullError(Exception):
    """The queue has no place for another request."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer; `end` says why it is the last one, and is None before."""

    text: str = ""
    tokens: Sequence[TokenText] = ()
    end: End | None = None


@dataclass(slots=True)
class Counters:
    """What the engine has done since its start."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    images_encoded: int = 0
    images_reused: int = 0
    cancelled: int = 0
    rounds: int = 0
    first_token_seconds: float = 0.0
    """Sum of the times from a sequence's arrival to its first token."""
    first_tokens: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """A sequence, for one submission: its prompt's token ids and images, how it is written, and where its pieces go.

    `deliver` is called in the model's thread. `cancel()` ends the sequence before the next round.
    """

    ids: list[int]
    pictures: Sequence[Picture]
    sampling: Sampling
    deliver: Callable[[Piece], None] = field(default=lambda _: None)
    grammar: Grammar | None = None
    cached: int = 0
    written: list[int] = field(default_factory=list)
    cancelled: bool = False
    arrival: float = field(default_factory=time.monotonic)
    symbols: list[int] = field(default_factory=list)
    sampler: Sampler = field(init=False)
    text: AnswerText = field(init=False)
    row: Row = field(init=False)

    @property
    def unread(self) -> int:
        """Number of the prompt's tokens that the cache does not hold yet."""
        return max(0, len(self.ids) - len(self.row.symbols))

    def cancel(self) -> None:
        self.cancelled = True
