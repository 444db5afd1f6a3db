"""What the page offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vistune.data.questions import read_questions
from vistune.errors import DataError
from vistune.resources import read_text
from vistune.serve.web.votes import Votes

Example = tuple[str, Sequence[Path]]
"""A question with its image files."""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """The settings of the page.

    `votes` stores votes (None: there are none). `answers` run at once and `queue` more wait. `max_tokens` bounds an
    answer, `max_file_size` an upload in bytes; `temperature` and `top_p` are the first values of their sliders.
    """

    votes: Votes | None = None
    examples: Sequence[Example] = ()
    answers: int = 16
    queue: int = 64
    max_tokens: int = 4096
    max_file_size: int = 32 * 2**20
    temperature: float = 0.0
    top_p: float = 1.0


def read_examples(file: Path | None) -> list[Example]:
    """The questions of a file, with images relative to its folder; without a file some that suit any image.

    Raises DataError for a file that cannot be used, or an image that does not exist.
    """
    if file is None:
        return [(line, ()) for line in read_text("vistune.serve.web", "examples.txt").splitlines()]
    rows: list[Example] = [(row.prompt, [file.parent / name for name in row.images]) for row in read_questions(file)]
    for _, images in rows:
        for image in images:
            if not image.is_file():
                raise DataError("there is no such image", where=str(image), fix=f"correct {file}")
    return rows
