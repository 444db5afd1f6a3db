"""Benchmarks: each asks questions about annotated images and judges the answers. One new file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vistune.evaluate.statistics import Measure
from vistune.records import ImageRecord, Question, Verdict
from vistune.registry import Registry

DESCRIBE = "Please describe this image in detail."
"""Asks for a detailed description, in the words of one of the teacher's questions (generate/prompts/detail)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark depends on besides the records."""

    seed: int = 0
    limit: int | None = None
    """Ask about the first so many images only; the categories are still those of all records."""
    describe: str = DESCRIBE
    """The question that asks for a detailed description."""


class Benchmark(Protocol):
    """Questions, the judgement of an answer to each, and what the answers measure."""

    questions: Sequence[Question]
    max_new_tokens: int

    def judge(self, question: Question, text: str) -> Verdict:
        """Whether the answer `text` is right, and how it was read."""

    def measure(self, texts: Sequence[str]) -> Mapping[str, Measure]:
        """The named measures of the answers to `questions`, in their order."""


class Build(Protocol):
    """What makes a benchmark of annotated images; this is what is registered."""

    def __call__(self, records: Sequence[ImageRecord], setting: Setting, /) -> Benchmark:
        """The benchmark; the same records and setting give the same questions."""


benchmarks: Registry[Build] = Registry("benchmark", "vistune.evaluate.benchmarks")
