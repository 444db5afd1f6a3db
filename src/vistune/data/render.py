"""The place of each turn's text in a rendered conversation.

The template is rendered twice: with the texts, and with a private-use mark in the place of each text. The
second rendering splits into the template's own words; walking the first along them gives every text's place, and
proves that the template changed none of them. Texts that look like the template's words (a user who types `USER:` or
`<|end|>`) cannot be confused with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from vistune.data import chat_template as templates
from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Turn

_MARK = "\ue000"
TYPED_IMAGE = "\ue001image>"
"""Stands for an `<image>` that is text while the template is rendered: a template may count images.

A caller writes it for one that is text before one that is an image."""
_SHAPES = 1000


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the template's words and the turns' texts, which alternate; the words are first and last."""

    words: tuple[str, ...]
    texts: tuple[str, ...]
    answers: tuple[int, ...]
    """The indices of the texts that are answers."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """The template's words for conversations whose turns have the same roles and the same images."""

    words: tuple[str, ...]
    spelled: tuple[str, ...]
    texts: tuple[tuple[int, int], ...]
    """The turn and piece of each text between the words."""
    answers: tuple[int, ...]
    images: int


class Renderer:
    """Renders turns with a chat template; `spell` is applied to the template's own words.

    The marked renderings are kept, one for each shape of conversation, until there are too many.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, spell: Callable[[str], str]) -> None:
        self._tokenizer, self._template, self._spell = tokenizer, template, spell
        self._shapes: dict[tuple[object, ...], _Shape] = {}

    def __call__(self, turns: Sequence[Turn], *, images: int, prompt: bool = False, where: str = "") -> Rendered:
        """Render; the first `images` `<image>` of the user are images, any other is text.

        Raises DataError (with `where`) if the template refuses the turns, changes a text or loses an answer.
        """
        pieces = _split_images(turns, images)
        text = self._render(turns, [IMAGE_TOKEN.join(map(_hide, piece)) for piece in pieces], prompt, where)
        key = (prompt, *((turn.role, *map(_blank, piece)) for turn, piece in zip(turns, pieces, strict=True)))
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            shape = self._shapes[key] = self._shape(turns, pieces, prompt, where)
        if shape.images != images:
            raise DataError(
                f"the chat template leaves {shape.images} of {images} {IMAGE_TOKEN}",
                where=where,
                fix="set model.chat_template to one of ours, e.g. vicuna_v1",
            )
        return Rendered(shape.spelled, _walk(text, shape, pieces, where), shape.answers)

    def _shape(self, turns: Sequence[Turn], pieces: list[list[str]], prompt: bool, where: str) -> _Shape:
        marked = [
            IMAGE_TOKEN.join(f"{_MARK}{i}.{j}{_MARK}" if (b := _blank(text)) is None else b for j, text in enumerate(p))
            for i, p in enumerate(pieces)
        ]
        split = re.split(f"{_MARK}(.*?){_MARK}", self._render(turns, marked, prompt, where))
        words, names = tuple(split[::2]), [name.split(".") for name in split[1::2]]
        texts = tuple((int(turn), int(piece)) for turn, piece in names)
        answers = tuple(i for i, (turn, _) in enumerate(texts) if turns[turn].role == "assistant")
        if len(answers) != sum(turn.role == "assistant" for turn in turns):
            raise _changed(where)
        return _Shape(words, tuple(map(self._spell, words)), texts, answers, sum(w.count(IMAGE_TOKEN) for w in words))

    def _render(self, turns: Sequence[Turn], texts: list[str], prompt: bool, where: str) -> str:
        messages = [{"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=True)]
        try:
            return templates.render(self._tokenizer, self._template, messages, prompt)
        except Exception as error:  # templates raise whatever their author chose
            raise DataError(
                f"the chat template refuses the conversation: {error}",
                where=where,
                fix="set model.chat_template to one of ours, or remove the record",
            ) from error


def image_marks(turns: Iterable[Turn]) -> int:
    """The number of `<image>` in the user's turns."""
    return sum(turn.text.count(IMAGE_TOKEN) for turn in turns if turn.role == "user")


def _split_images(turns: Sequence[Turn], images: int) -> list[list[str]]:
    """Each turn's text as one piece, or as the pieces beside its images."""
    pieces = []
    for turn in turns:
        pieces.append(turn.text.split(IMAGE_TOKEN, images) if turn.role == "user" else [turn.text])
        images -= len(pieces[-1]) - 1
    return pieces


def _blank(text: str) -> str | None:
    """A text of white space alone, which is no text of its own: a template may leave out what is between two images."""
    return None if text.strip() else text


def _hide(text: str) -> str:
    return text.replace(IMAGE_TOKEN, TYPED_IMAGE)


def _walk(text: str, shape: _Shape, pieces: list[list[str]], where: str) -> tuple[str, ...]:
    """The texts between the template's words in `text`, as the template left them."""
    if not text.startswith(shape.words[0]):
        raise _changed(where)
    found: list[str] = []
    position = len(shape.words[0])
    for (turn, piece), words in zip(shape.texts, shape.words[1:], strict=True):
        typed = pieces[turn][piece]
        kept = next((some for some in _trimmed(typed) if text.startswith(_hide(some) + words, position)), None)
        if kept is None:
            raise _changed(where)
        found.append(kept.replace(TYPED_IMAGE, IMAGE_TOKEN))
        position += len(kept) + len(words)
    if position != len(text):
        raise _changed(where)
    return tuple(found)


def _trimmed(text: str) -> Iterator[str]:
    """The text, then its forms in templates that trim white space or line breaks, at either end or both."""
    yield text
    ends = len(text), len(text.rstrip("\n")), len(text.rstrip())
    starts = 0, len(text) - len(text.lstrip("\n")), len(text) - len(text.lstrip())
    yield from (text[start:end] for start in dict.fromkeys(starts) for end in dict.fromkeys(ends))


def _changed(where: str) -> DataError:
    return DataError(
        "the chat template changes a turn's text or leaves an answer out, so its place cannot be found",
        where=where,
        fix="use another chat template (model.chat_template, or the stage's template)",
    )
