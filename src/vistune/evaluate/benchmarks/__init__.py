"""Benchmarks: questions about annotated images and the judgement of the answers. One file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vistune.evaluate.statistics import Measure
from vistune.records import ImageRecord, Question, Verdict
from vistune.registry import Registry


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of an evaluation that all benchmarks share."""

    seed: int = 0
    limit: int | None = None
    """Number of images with questions, from the first; the categories are still those of all records."""


class Benchmark(Protocol):
    """Questions, the judgement of an answer to each, and the measures of all answers."""

    questions: Sequence[Question]
    max_new_tokens: int

    def judge(self, question: Question, text: str) -> Verdict:
        """Whether the answer `text` is right, and how it was read; unreadable is unscored or wrong."""

    def measure(self, texts: Sequence[str]) -> Mapping[str, Measure]:
        """The named measures of the answers to `questions`, in their order."""


benchmarks: Registry[Callable[[Sequence[ImageRecord], Setting], Benchmark]] = Registry(
    "benchmark", "vistune.evaluate.benchmarks"
)
"""Make a benchmark of annotated images; the same records and setting give the same questions."""
