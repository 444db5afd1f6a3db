"""Answers to a few held-out questions while a stage trains, to look at in the trackers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.dataset import Dataset
from vistune.data.render import image_marks
from vistune.errors import DataError
from vistune.model.assistant import Assistant
from vistune.records import IMAGE_TOKEN, Conversation, Turn

_LONGEST = 64
"""Maximum number of tokens of an answer."""
_SIDE = 448
"""Maximum side in pixels of a picture in the trackers."""
_LOOKED_AT = 50
"""Conversations among which each one to answer is looked for."""


@dataclass(frozen=True, slots=True)
class HeldOutAnswer:
    """What the model answers to the question of a conversation, whose answer is `reference`."""

    id: str
    question: str
    reference: str
    answer: str
    picture: Image.Image

    def markdown(self) -> str:
        """The answer and its reference as text."""
        return f"**{self.question}**\n\n{self.answer}\n\n*reference:* {self.reference}"


class HeldOutQuestions:
    """The first question of up to `count` conversations about different images."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self._dataset = dataset
        self._chosen = list(islice(self._about_different_images(count), count))

    def _about_different_images(self, count: int) -> Iterator[Conversation]:
        seen: set[str] = set()
        for index in range(min(len(self._dataset), _LOOKED_AT * count)):
            one = self._dataset.conversation(index)
            if one.images and one.images[0] not in seen and one.turns[0].role == "user":
                seen.add(one.images[0])
                yield one

    def answers(self, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> list[HeldOutAnswer]:
        """The model's own answers, greedily decoded; it has to be in evaluation mode. An unreadable image has none."""
        assistant, found = Assistant(model, processor), []
        for one in self._chosen:
            end = next(at for at, turn in enumerate(one.turns) if turn.role == "assistant" and turn.learned)
            asked = [Turn(turn.role, turn.text.replace(IMAGE_TOKEN, "").strip()) for turn in one.turns[:end]]
            try:
                images = [self._dataset.image(name).open() for name in one.images[: image_marks(one.turns[:end])]]
            except DataError:
                continue
            answer = "".join(assistant.stream(asked, images, max_new_tokens=_LONGEST))
            picture = images[0].copy()
            picture.thumbnail((_SIDE, _SIDE))
            found.append(HeldOutAnswer(one.id, asked[-1].text, one.turns[end].text, answer, picture))
        return found
