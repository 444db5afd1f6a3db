"""What an evaluation expects of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from PIL import Image

from vistune.errors import DataError, VistuneError

Dtype = Literal["float32", "bfloat16", "float16"]


class Prompt(NamedTuple):
    """A question with its images, each a file or an image in memory; `where` names it in messages."""

    images: tuple[Path | Image.Image, ...]
    text: str
    where: str = ""


class Likelihood(NamedTuple):
    """The log-likelihood of an answer: the sum over its tokens, and their number."""

    total: float
    tokens: int


class Answerer(Protocol):
    """A model under evaluation."""

    name: str
    """What people call it."""
    identity: str
    """A hash of what determines its answers: weights, configuration, chat template, and never a path."""

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices, as each batch is done, in any order.

        Raises DataError for an image that cannot be read, ClientError if a server does not reply to a question.
        """

    def likelihoods(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]], *, batch_size: int
    ) -> Iterator[tuple[int, list[Likelihood]]]:
        """The likelihood of each of a prompt's choices as its answer, without the answer's end; with the index.

        Raises VistuneError for a model that gives no likelihoods.
        """


@contextmanager
def naming_prompts(prompts: Sequence[Prompt]) -> Iterator[None]:
    """Within, an error about an image names the question, and one about memory says what to change."""
    try:
        yield
    except DataError as error:
        asked = next((one.where for one in prompts if error.where and error.where in map(str, one.images)), "")
        raise DataError(error.what, where=": ".join(filter(None, (asked, error.where))), fix=error.fix) from None
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is imported by those who compute
            raise
        fix = "give a smaller --batch-size, or --dtype bfloat16"
        raise VistuneError("the GPU's memory is too small for a batch", fix=fix) from error
