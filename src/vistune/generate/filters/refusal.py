"""Answers that decline to answer."""

from __future__ import annotations

import re

from vistune.generate.filters.phrases import phrases
from vistune.generate.filters.sample import Sample

_ANSWERS_ANYWAY = re.compile(
    r"\b(?:but|however|although|though|nevertheless|still|while)\b,?(?:[ ]+[^\s.]+){4,}|[.!]\s+\w+(?:[ ]+[^\s.]+){11,}"
)


def refusal(sample: Sample) -> bool:
    """An answer declines to answer, or says that the image does not tell and leaves it at that."""
    if any(phrases("declined").having(sample, sample.answers)):
        return True
    left = phrases("unanswered").having(sample, sample.answers)
    return any(not _ANSWERS_ANYWAY.search(text.plain) for text in left)
