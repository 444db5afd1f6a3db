"""LLaVA's filter of stage 1's caption pairs: rare things are kept, frequent ones cut down (its appendix, on CC3M).

Noun phrases are counted over all captions. Those in fewer than `LEAST` captions are skipped; from the rarest up each
gives its captions, one in more than `MOST` captions a random `MOST` of them. What is drawn for one phrase does not
depend on another, so the captions that are given are the same in any order.
"""

from __future__ import annotations

import heapq
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from vistune.errors import MissingPackageError, VistuneError
from vistune.records import Conversation
from vistune.scene.context import one_line
from vistune.seeded import bits

LEAST = 3
MOST = 100
_BATCH = 256


class Phrases(Protocol):
    """Finds the noun phrases of texts."""

    def __call__(self, texts: Iterable[str]) -> Iterator[set[str]]:
        """Each text's different phrases, in lower case."""


class SpacyPhrases:
    """The noun chunks of a spaCy pipeline, by name or folder. Raises MissingPackageError or VistuneError without it."""

    def __init__(self, pipeline: str = "en_core_web_sm") -> None:
        try:
            import spacy
        except ImportError:
            what, fix = "balancing captions needs the package spacy", "pip install 'vistune[cc3m]'"
            raise MissingPackageError(what, fix=fix) from None
        try:
            self._nlp: Any = spacy.load(pipeline, exclude=["ner", "lemmatizer"])
        except OSError:
            fix = f"python -m spacy download {pipeline}, or name another pipeline, also by its folder"
            raise MissingPackageError(f"there is no spaCy pipeline '{pipeline}'", fix=fix) from None

    def __call__(self, texts: Iterable[str]) -> Iterator[set[str]]:
        """Each text's different noun chunks."""
        for document in self._nlp.pipe(texts, batch_size=_BATCH):
            try:
                yield {one_line(chunk.text).lower() for chunk in document.noun_chunks}
            except (ValueError, NotImplementedError) as error:
                raise VistuneError(
                    f"this spaCy pipeline finds no noun chunks: {error}", fix="it needs a parser"
                ) from None


class Balanced:
    """The conversations of `pairs` (caption pairs) that the filter keeps, in their order; can be gone through again.

    The first pass finds the phrases and keeps their hashes in a file without a name; memory is that of the different
    phrases (about 100 bytes each) and a byte a caption.
    """

    def __init__(self, pairs: Iterable[Conversation], phrases: Phrases, seed: int) -> None:
        self._pairs, self._phrases, self._seed = pairs, phrases, seed
        self._kept: bytearray | None = None

    def __iter__(self) -> Iterator[Conversation]:
        if self._kept is None:
            with tempfile.TemporaryFile() as file:
                counts = self._count(file)
                file.seek(0)
                self._kept = self._choose(file, counts)
        for pair, kept in zip(self._pairs, self._kept, strict=True):
            if kept:
                yield pair

    def _count(self, file: BinaryIO) -> Counter[int]:
        """In how many captions each phrase is, by its hash; each caption's hashes go to the file."""
        counts: Counter[int] = Counter()
        texts = (pair.turns[-1].text for pair in self._pairs)
        for found in self._phrases(texts):
            hashes = array("Q", sorted(map(bits, found)))
            counts.update(hashes)
            file.write(array("Q", [len(hashes)]).tobytes() + hashes.tobytes())
        return counts

    def _choose(self, file: BinaryIO, counts: Counter[int]) -> bytearray:
        """For each caption whether it is kept."""
        kept = bytearray()
        drawn: dict[int, list[tuple[int, int]]] = {}  # a frequent phrase's captions with the lowest hashes
        for number, hashes in enumerate(_lists(file)):
            kept.append(any(LEAST <= counts[phrase] <= MOST for phrase in hashes))
            for phrase in hashes:
                if counts[phrase] > MOST:
                    heap = drawn.setdefault(phrase, [])
                    rank = (-bits(self._seed, phrase, number), number)
                    (heapq.heappush if len(heap) < MOST else heapq.heappushpop)(heap, rank)
        for heap in drawn.values():
            for _, number in heap:
                kept[number] = True
        return kept


def _lists(file: BinaryIO) -> Iterator[array[int]]:
    while head := file.read(8):
        hashes = array("Q")
        hashes.frombytes(file.read(8 * array("Q", head)[0]))
        yield hashes


def balanced(pairs: Iterable[Conversation], seed: int, pipeline: str | Path = "en_core_web_sm") -> Balanced:
    """The caption pairs that LLaVA's filter keeps, with the noun chunks of a spaCy pipeline."""
    return Balanced(pairs, SpacyPhrases(str(pipeline)), seed)
