"""A stage's data as samples: any number of conversations, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np

from vistune.data.encode import Encoder, Sample
from vistune.data.images import ImageFile, read_image
from vistune.data.sampler import Numbers, Sampler, number_groups
from vistune.data.source import NAMED, DataSource
from vistune.errors import DataError
from vistune.recipe.training import DataRecipe
from vistune.records import Conversation

AHEAD = 20_000
"""Conversations up to which all are encoded and kept before training; of more, each is encoded when it is needed."""
PREVIEW = 1_000
"""Conversations that are encoded before training where not all are."""
_BATCH = 256


def open_sources(
    entries: Sequence[DataRecipe], *, skip_bad_records: bool = False, output: Callable[[str], None] = print
) -> list[DataSource]:
    """The data sets of a stage, each read through once. Raises DataError with file and record.

    With `skip_bad_records` bad records are left out; `output` gets the errors of the first few, and their number.
    """
    return [DataSource(entry, output if skip_bad_records else None) for entry in entries]


class Dataset:
    """The samples of several sources, one source after the other.

    Up to `ahead` conversations are encoded at once: unusable ones (the first answer does not fit, there is no target
    token) are reported and left out before training. Of more, each is encoded when it is needed; only a preview of a
    thousand is encoded at once, so that a mistake in all of them shows early.

    `output` gets the messages: the ids of the first few conversations that are left out.
    """

    def __init__(
        self, sources: Sequence[DataSource], encoder: Encoder, max_length: int, output: Callable[[str], None] = print,
        ahead: int = AHEAD,
    ) -> None:  # fmt: skip
        self._sources, self._encoder, self._max_length = sources, encoder, max_length
        self._output = output
        self._sizes: dict[str, tuple[int, int]] = {}
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        self._left_out: set[int] = set()  # unusable conversations known so far
        self._shortened: dict[int, int] = {}  # turns that were too long, by conversation, likewise
        count = int(self._starts[-1])
        self._all = count <= ahead
        self._numbers: Numbers = np.arange(count)
        first = self._numbers
        if not self._all:  # always the same ones
            first = np.sort(np.random.default_rng(0).choice(count, min(count, PREVIEW), replace=False))
        outcomes = [
            one for start in range(0, len(first), _BATCH) for one in self._encode(first[start:][:_BATCH].tolist())
        ]
        self.preview = [one for one in outcomes if isinstance(one, Sample)]
        """Samples of the data: all of it, or a thousand drawn at random."""
        if not self.preview:
            raise next(one for one in outcomes if isinstance(one, DataError))
        if self._all:
            self._numbers = first[[isinstance(one, Sample) for one in outcomes]]

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, index: int) -> Sample | None:
        """The sample of that number; None if its conversation turns out to be unusable."""
        if self._all:
            return self.preview[index]
        [outcome] = self._encode([int(self._numbers[index])])
        return outcome if isinstance(outcome, Sample) else None

    def ids(self, indices: Sequence[int]) -> list[str]:
        """The ids of the conversations at these indices, as the data has them."""
        return [self.conversation(index).id for index in indices]

    def conversation(self, index: int) -> Conversation:
        """The conversation of the sample of that number."""
        return self._conversation(int(self._numbers[index]))

    def sampler(self, seed: int) -> Sampler:
        """The sampler of the samples; those that begin with the same image are a group."""
        groups = number_groups(np.concatenate([source.keys for source in self._sources])[self._numbers])
        edges = np.searchsorted(self._numbers, self._starts)
        parts = [groups[start:stop] for start, stop in pairwise(edges.tolist())]
        kept = [(part, source.weight) for part, source in zip(parts, self._sources, strict=True) if len(part)]
        return Sampler([part for part, _ in kept], [weight for _, weight in kept], seed)

    def image(self, name: str) -> ImageFile:
        """The image of that name. Raises DataError if it is missing."""
        source = next((source for source in self._sources if source.holds(name)), None)
        return read_image(Path(name)) if source is None else source.image(name)

    def fingerprint(self) -> str:
        """A hash of every text, the images' names, and the encoded preview."""
        digest = sha256()
        for source in self._sources:
            digest.update(f"{source.digest} {source.weight}\0".encode())
        for sample in self.preview:
            digest.update(f"{sample.images}\0{len(sample.input_ids)}\0".encode())
            digest.update(sample.input_ids.tobytes() + sample.targets.tobytes())
        return digest.hexdigest()

    def summary(self) -> list[str]:
        """What was left out, as lines to print; conversations are counted once."""
        lines = []
        if self._left_out:
            lines.append(f"{len(self._left_out)} conversations left out: they cannot be used")
        if turns := sum(self._shortened.values()):
            lines.append(f"{turns} turns left out: longer than {self._max_length} tokens")
        return lines if self._all else [f"{line} (so far; they are read when they are needed)" for line in lines]

    def _encode(self, numbers: Sequence[int]) -> Iterator[Sample | DataError]:
        """The samples of these conversations, numbered through all sources, or why they are unusable."""
        conversations = [self._conversation(number) for number in numbers]
        outcomes = self._encoder.encode_batch(conversations, self._max_length, self._size)
        for number, outcome in zip(numbers, outcomes, strict=True):
            if isinstance(outcome, DataError):
                label = self._sources[self._source(number)].label
                error = DataError(outcome.what, where=f"{label}: {outcome.where}", fix=outcome.fix)
                if number not in self._left_out and len(self._left_out) < NAMED:
                    self._output(f"left out: {error}")
                self._left_out.add(number)
                yield error
                continue
            if outcome.dropped_turns:
                self._shortened[number] = outcome.dropped_turns
            yield outcome

    def _size(self, name: str) -> tuple[int, int]:
        if name not in self._sizes:
            self._sizes[name] = self.image(name).size()
        return self._sizes[name]

    def _conversation(self, number: int) -> Conversation:
        source = self._source(number)
        return self._sources[source][number - int(self._starts[source])]

    def _source(self, number: int) -> int:
        return int(np.searchsorted(self._starts, number, side="right")) - 1
