"""Stage 1's data: each caption as the answer to a request for a brief description (LLaVA, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path

from vistune.formats.conversations import image_path
from vistune.generate.filters import has_role_marker
from vistune.generate.injection import aims
from vistune.generate.kinds import brief_questions
from vistune.generate.languages import ENGLISH
from vistune.records import IMAGE_TOKEN, Conversation, ImageRecord, Turn
from vistune.scene.context import one_line
from vistune.seeded import bits, pick


@dataclass(frozen=True)
class CaptionPairs:
    """`per_image` captions of each image (None: all), drawn by `seed`, each as a conversation of one pair.

    Can be gone through again. A caption that is empty, holds a chat template's markers or aims at whoever reads it is
    left out. `language` is the captions', and so the questions' (`brief_questions`, also of `folder`).
    """

    records: Iterable[ImageRecord]
    seed: int
    _: KW_ONLY
    per_image: int | None = 1
    images: Path | None = None
    language: str = ENGLISH
    folder: Path | None = None

    def __iter__(self) -> Iterator[Conversation]:
        questions = brief_questions(self.language, self.folder)
        for record in self.records:
            ranked = sorted(enumerate(record.captions), key=lambda one: bits(self.seed, record.id, "caption", one[0]))
            usable = ((number, text) for number, caption in ranked if _usable(text := one_line(caption)))
            for number, text in sorted(islice(usable, self.per_image)):
                question = pick(questions, self.seed, record.id, "brief", number)
                turns = (Turn("user", f"{IMAGE_TOKEN}\n{question}"), Turn("assistant", text))
                image = image_path(record, self.images)
                yield Conversation(f"{record.id}-caption-{number}", turns, (image,), "caption")


def _usable(text: str) -> bool:
    return bool(text) and not has_role_marker(text) and not aims(text)
