"""Stage 1's data: a caption as the answer to a question for a brief description (LLaVA, section 4.2).

LLaVA's filter of these pairs (its appendix, on CC3M) keeps rare things and cuts down frequent ones. Noun phrases are
counted over all captions; from the rarest up, each gives its captions: none if it is in fewer than `MIN_CAPTIONS`, a
random `MAX_CAPTIONS` of them if it is in more. The draw for one phrase does not depend on another.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

from vistune.errors import MissingPackageError, VistuneError, require
from vistune.formats.conversations import image_path, write_conversations
from vistune.generate.filters import has_role_marker
from vistune.generate.injection import aims
from vistune.generate.kinds import brief_questions
from vistune.generate.languages import ENGLISH, language_code
from vistune.recipe.generation import GenerateRecipe
from vistune.records import IMAGE_TOKEN, Conversation, ImageRecord, Turn
from vistune.scene.context import one_line
from vistune.scene.writer import SceneWriter
from vistune.seeded import bits, pick

MIN_CAPTIONS = 3
MAX_CAPTIONS = 100

Phrases = Callable[[Iterable[str]], Iterator[set[str]]]
"""Finds the different noun phrases of each text, in lower case."""


@dataclass(frozen=True)
class CaptionPairs:
    """One caption of each image, drawn by `seed`, as a conversation of one pair; iterable more than once.

    An image without captions gets a list of its boxed objects, in English (kind `objects`). A caption that is empty,
    holds a chat template's markers or a prompt injection is left out. `language` is that of the captions and of the
    questions (`brief_questions`, also of `folder`).
    """

    records: Iterable[ImageRecord]
    seed: int
    _: KW_ONLY
    images: Path | None = None
    language: str = ENGLISH
    folder: Path | None = None

    def __iter__(self) -> Iterator[Conversation]:
        questions = brief_questions(self.language, self.folder)
        for record in self.records:
            kind = "caption" if record.captions else "objects"
            texts = record.captions or self._objects(record)
            for number, text in sorted(enumerate(texts), key=lambda one: bits(self.seed, record.id, "caption", one[0])):
                if _usable(text := one_line(text)):
                    question = pick(questions, self.seed, record.id, "brief", number)
                    turns = (Turn("user", f"{IMAGE_TOKEN}\n{question}"), Turn("assistant", text))
                    yield Conversation(f"{record.id}-{kind}-{number}", turns, (image_path(record, self.images),), kind)
                    break

    def _objects(self, record: ImageRecord) -> tuple[str, ...]:
        """The caption that the boxes give; none without boxes."""
        if not record.boxes or language_code(self.language) != ENGLISH:
            return ()
        return (SceneWriter((), record.boxes, random.Random(0)).caption(),)


def _usable(text: str) -> bool:
    return bool(text) and not has_role_marker(text) and not aims(text)


class SpacyPhrases:
    """The noun chunks of a spaCy pipeline, by name or folder. Raises MissingPackageError or VistuneError without it."""

    def __init__(self, pipeline: str = "en_core_web_sm") -> None:
        spacy = require("spacy", "cc3m", "balancing captions")
        try:
            self._nlp: Any = spacy.load(pipeline, exclude=["ner", "lemmatizer"])
        except OSError:
            fix = f"python -m spacy download {pipeline}, or name another pipeline, also by its folder"
            raise MissingPackageError(f"there is no spaCy pipeline '{pipeline}'", fix=fix) from None

    def __call__(self, texts: Iterable[str]) -> Iterator[set[str]]:
        for document in self._nlp.pipe(texts):
            try:
                yield {one_line(chunk.text).lower() for chunk in document.noun_chunks}
            except (ValueError, NotImplementedError) as error:
                what = f"this spaCy pipeline finds no noun chunks: {error}"
                raise VistuneError(what, fix="it needs a parser") from None


def write_pairs(
    records: Iterable[ImageRecord], out: Path, recipe: GenerateRecipe, *, images: Path | None, folder: Path | None,
    each: Callable[[Conversation], Conversation],
) -> None:  # fmt: skip
    """Write the caption pairs of `records`, after `each` has seen them, into the folder `out` as the recipe says."""
    pairs: Iterable[Conversation] = CaptionPairs(
        records, recipe.seed, images=images, language=recipe.caption_language, folder=folder
    )
    if recipe.balance_captions:
        pairs = balanced(pairs, SpacyPhrases(recipe.balance_captions), recipe.seed)
    write_conversations(map(each, pairs), out / "align", recipe.format)


def balanced(pairs: Iterable[Conversation], phrases: Phrases, seed: int) -> Iterator[Conversation]:
    """The caption pairs that LLaVA's filter keeps, in their order; `pairs` are iterated twice.

    It holds about 200 bytes for each different phrase and 8 for each of its captions.
    """
    kept = bytearray()
    captions: dict[int, array[int]] = defaultdict(lambda: array("Q"))  # the numbers of each phrase's, by its hash
    for number, found in enumerate(phrases(pair.turns[-1].text for pair in pairs)):
        kept.append(False)
        for hashed in map(bits, found):
            captions[hashed].append(number)
    for phrase, numbers in captions.items():
        if len(numbers) >= MIN_CAPTIONS:
            for number in heapq.nsmallest(MAX_CAPTIONS, numbers, partial(bits, seed, phrase)):
                kept[number] = True
    return compress(pairs, kept)
