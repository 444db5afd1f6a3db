"""Conversations with the same beginning: it is put into a row once.

Under causal attention the states of a beginning do not depend on what comes after it, so all conversations about
one image share the states of [system, image] exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vistune.data.encode import Sample


@dataclass(frozen=True, slots=True)
class Group:
    """Samples whose first `shared` tokens, images included, are the same; none of these is a target."""

    samples: tuple[Sample, ...]
    shared: int

    @property
    def length(self) -> int:
        return self.shared + sum(len(sample.input_ids) - self.shared for sample in self.samples)

    def halves(self) -> tuple[Group, Group]:
        """The group as two; it has at least two samples."""
        middle = len(self.samples) // 2
        return Group(self.samples[:middle], self.shared), Group(self.samples[middle:], self.shared)


def _beginning(sample: Sample) -> tuple[str, bytes]:
    """The key of a sample's group: the first image, and all tokens up to its end."""
    end = int(sample.image_at[len(sample.image_tokens[0]) - 1]) + 1
    return sample.images[0], sample.input_ids[:end].tobytes()


def make_groups(samples: Sequence[Sample]) -> list[Group]:
    """The groups of `samples`, in the order of their first members; a sample without an image is one by itself.

    A pair of answers is a group of its own, so that its question is shared, too, and no step splits it.
    """
    groups: dict[tuple[str, bytes] | int, list[Sample]] = {}
    for index, sample in enumerate(samples):
        alone = sample.rejected or not sample.images
        groups.setdefault(index if alone else _beginning(sample), []).extend(sample.versions)
    return [Group(tuple(members), _shared(members)) for members in groups.values()]


def _shared(samples: Sequence[Sample]) -> int:
    """The longest common beginning before any sample's first target: its last state predicts a token of each."""
    if len(samples) == 1:
        return 0
    shortest = min(int(sample.targets.argmax()) for sample in samples) - 1
    for sample in samples[1:]:
        differ = samples[0].input_ids[:shortest] != sample.input_ids[:shortest]
        shortest = int(differ.argmax()) if differ.any() else shortest
        shortest = min(shortest, _other_image(samples[0], sample))
    return max(0, shortest)


def _other_image(one: Sample, other: Sample) -> int:
    """The place of the first image that differs between two samples whose tokens are the same up to there."""
    number = next((i for i, (a, b) in enumerate(zip(one.images, other.images, strict=False)) if a != b), None)
    before = sum(len(tokens) for tokens in one.image_tokens[:number])
    return len(one.input_ids) if number is None else int(one.image_at[before])
