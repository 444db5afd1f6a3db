"""Where each turn's text stands in a rendered conversation.

The template is rendered twice: with the texts, and with a private-use mark in the place of each text. The
second rendering splits into what the template itself writes; walking the first along it gives every text's
place, and proves that the template changed none of them. Texts that look like the template's own words (a user
who types `USER:` or `<|end|>`) cannot be confused with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from vistune.data import templates
from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Role, Turn


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of the rendering are a turn's text (all of it, or a part beside an image)."""

    start: int
    end: int
    role: Role


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text; `images` is where the `<image>` of each image stands."""

    text: str
    spans: tuple[Span, ...]
    images: tuple[int, ...]


class Renderer:
    """Renders turns with a chat template. The marked renderings are kept, one for each shape of conversation."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._literals: dict[tuple[object, ...], list[str]] = {}

    def __call__(self, turns: Sequence[Turn], *, images: int, prompt: bool = False, where: str = "") -> Rendered:
        """Render; the first `images` `<image>` of the user are images, any other is text.

        Raises DataError (with `where`) if the template refuses the turns, changes a text or loses an answer.
        """
        pieces = _split_images(turns, images)
        mark = next(chr(code) for code in range(0xE000, 0xF900) if not any(chr(code) in turn.text for turn in turns))
        shape = (mark, prompt, *((turn.role, *map(bool, piece)) for turn, piece in zip(turns, pieces, strict=True)))
        text = self._render(turns, [turn.text for turn in turns], prompt, where)
        if shape not in self._literals:
            marked = [IMAGE_TOKEN.join(_mark(mark, i, j, t) for j, t in enumerate(p)) for i, p in enumerate(pieces)]
            self._literals[shape] = re.split(f"{mark}(.*?){mark}", self._render(turns, marked, prompt, where))
        rendered = _walk(text, self._literals[shape], turns, pieces, where)
        if len(rendered.images) != images:
            raise DataError(f"the chat template leaves {len(rendered.images)} of {images} {IMAGE_TOKEN}", where=where)
        return rendered

    def _render(self, turns: Sequence[Turn], texts: list[str], prompt: bool, where: str) -> str:
        messages = [{"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=True)]
        try:
            return templates.render(self._tokenizer, self._template, messages, prompt)
        except Exception as error:  # templates raise whatever their author chose
            raise DataError(f"the chat template refuses the conversation: {error}", where=where) from error


def image_marks(turns: Iterable[Turn]) -> int:
    """How many `<image>` the user's turns hold."""
    return sum(turn.text.count(IMAGE_TOKEN) for turn in turns if turn.role == "user")


def _split_images(turns: Sequence[Turn], images: int) -> list[list[str]]:
    """Each turn's text as one piece, or as the pieces beside its images."""
    pieces = []
    for turn in turns:
        pieces.append(turn.text.split(IMAGE_TOKEN, images) if turn.role == "user" else [turn.text])
        images -= len(pieces[-1]) - 1
    return pieces


def _mark(mark: str, turn: int, piece: int, text: str) -> str:
    return f"{mark}{turn}.{piece}{mark}" if text else ""


def _walk(text: str, parts: list[str], turns: Sequence[Turn], pieces: list[list[str]], where: str) -> Rendered:
    """Find each piece in `text`. `parts`: what the template writes and the names of pieces, in turn."""
    spans: list[Span] = []
    images: list[int] = []
    if not text.startswith(parts[0]):
        raise _changed(where)
    position = len(parts[0])
    images += _find_images(parts[0], 0)
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        turn, piece = map(int, name.split("."))
        words = pieces[turn][piece]
        variants = (words, words.rstrip(), words.lstrip(), words.strip())  # templates may trim
        kept = next((some for some in variants if text.startswith(some + literal, position)), None)
        if kept is None:
            raise _changed(where)
        spans.append(Span(position, position + len(kept), turns[turn].role))
        position += len(kept)
        images += _find_images(literal, position)
        position += len(literal)
    answers = sum(turn.role == "assistant" for turn in turns)
    if position != len(text) or sum(span.role == "assistant" for span in spans) != answers:
        raise _changed(where)
    return Rendered(text, tuple(spans), tuple(images))


def _find_images(literal: str, position: int) -> list[int]:
    return [position + match.start() for match in re.finditer(IMAGE_TOKEN, literal)]


def _changed(where: str) -> DataError:
    return DataError(
        "the chat template changes a turn's text or leaves an answer out, so its place cannot be found",
        where=where,
        fix="use another chat template (model.chat_template, or the stage's template)",
    )
