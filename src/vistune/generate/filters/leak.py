"""Texts that let on what the teacher was shown in the image's place."""

from __future__ import annotations

from vistune.generate.filters.phrases import phrases
from vistune.generate.filters.sample import Sample


def leak(sample: Sample) -> bool:
    """A text lets on that the teacher saw captions and boxes, not the image."""
    return any(phrases("leak").having(sample, sample.texts))
