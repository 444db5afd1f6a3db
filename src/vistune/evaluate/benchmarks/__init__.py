"""Benchmarks: questions about images, the score of an answer, and the metrics over all answers. One file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from vistune.errors import DataError
from vistune.evaluate.statistics import Measure
from vistune.records import ImageRecord, Question, Verdict
from vistune.registry import Registry

if TYPE_CHECKING:
    from vistune.evaluate.judges import Judges


class Scored(NamedTuple):
    """A question with the verdict on its answer."""

    question: Question
    verdict: Verdict


Metric = Callable[[Sequence[Scored]], Measure]
"""A figure over scored questions; it sees nothing else, so no answer is judged twice."""


@dataclass(frozen=True)
class Setting:
    """What a benchmark is made from."""

    path: Path | None = None
    """The benchmark's own file or folder (`NAME=PATH`)."""
    annotated: Sequence[ImageRecord] | None = None
    """Annotated images (`--data`)."""
    images: Path | None = None
    """Folder that image paths start from; None: beside the file."""
    unpacked: Path = Path("images")
    """Folder to write the images to that stand inside the benchmark's files."""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's further fields, by name."""
    judges: Judges | None = None

    @property
    def records(self) -> Sequence[ImageRecord]:
        """The annotated images. Raises DataError if there are none."""
        if not self.annotated:
            raise DataError("this benchmark makes its questions from annotated images", fix="add --data PATH")
        return self.annotated

    @property
    def file(self) -> Path:
        """The benchmark's own file or folder, which exists. Raises DataError."""
        if self.path is None:
            raise DataError("this benchmark reads its questions from a file", fix="write NAME=PATH")
        if not self.path.exists():
            raise DataError(
                "there is no such file or folder", where=str(self.path), fix="check the path after the benchmark's name"
            )
        return self.path


class Benchmark(ABC):
    """Questions, the score of an answer to each, and the metrics over the scored questions."""

    max_new_tokens: int = 64
    by_likelihood: bool = False
    """Whether a question with choices is answered by the likelihood of each choice as its answer. The answer is then
    a JSON list, for each choice the log-likelihood and the number of tokens."""
    max_unscored: ClassVar[float] = 1.0
    """The share of unscored answers above which the scores are not to be trusted."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics by name. The first is the headline, which is also given for each type of questions."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What besides the questions determines the scores: judges, prompts, rules. Others cannot be compared."""
        return {}

    @abstractmethod
    def questions(self) -> Iterable[Question]:
        """The questions; the same setting gives the same ones, in the same order."""

    def prepare(self, answers: Sequence[tuple[Question, str]]) -> None:  # noqa: B027
        """Called with all answers before the first is scored: a benchmark with judges has them judged here."""

    @abstractmethod
    def score(self, question: Question, answer: str) -> Verdict:
        """The verdict on an answer."""


benchmarks: Registry[Callable[[Setting], Benchmark]] = Registry("benchmark", "vistune.evaluate.benchmarks")
"""An entry makes a benchmark from a setting."""
