"""Where each turn's text stands in a rendered conversation.

The template is rendered twice: with the texts, and with a private-use mark in the place of each text. The
second rendering splits into what the template itself writes; walking the first along it gives every text's
place, and proves that the template changed none of them. Texts that look like the template's own words (a user
who types `USER:` or `<|end|>`) cannot be confused with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from vistune.data import templates
from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Role, Turn


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of the rendering are a turn's text (all of it, or the part beside an image)."""

    start: int
    end: int
    role: Role


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text; `image` is where its `<image>` stands."""

    text: str
    spans: tuple[Span, ...]
    image: int | None


class Renderer:
    """Renders turns with a chat template. The marked renderings are kept, one for each shape of conversation."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._literals: dict[tuple[object, ...], list[str]] = {}

    def __call__(self, turns: Sequence[Turn], *, has_image: bool, prompt: bool = False, where: str = "") -> Rendered:
        """Render; `has_image`: the first `<image>` of a user is the image, any other is text.

        Raises DataError (with `where`) if the template refuses the turns, changes a text or loses an answer.
        """
        pieces = _split_image(turns, has_image)
        mark = next(chr(code) for code in range(0xE000, 0xF900) if not any(chr(code) in turn.text for turn in turns))
        shape = (mark, prompt, *((turn.role, *map(bool, piece)) for turn, piece in zip(turns, pieces, strict=True)))
        text = self._render(turns, [turn.text for turn in turns], prompt, where)
        if shape not in self._literals:
            marked = [IMAGE_TOKEN.join(_mark(mark, i, j, t) for j, t in enumerate(p)) for i, p in enumerate(pieces)]
            self._literals[shape] = re.split(f"{mark}(.*?){mark}", self._render(turns, marked, prompt, where))
        rendered = _walk(text, self._literals[shape], turns, pieces, where)
        if has_image and rendered.image is None:
            raise DataError(f"no {IMAGE_TOKEN} of a user is left by the chat template", where=where)
        return rendered

    def _render(self, turns: Sequence[Turn], texts: list[str], prompt: bool, where: str) -> str:
        messages = [{"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=True)]
        try:
            return templates.render(self._tokenizer, self._template, messages, prompt)
        except Exception as error:  # templates raise whatever their author chose
            raise DataError(f"the chat template refuses the conversation: {error}", where=where) from error


def _split_image(turns: Sequence[Turn], has_image: bool) -> list[list[str]]:
    """Each turn's text as one piece, or as the two pieces beside the image."""
    pieces = [[turn.text] for turn in turns]
    for index, turn in enumerate(turns):
        if has_image and turn.role == "user" and IMAGE_TOKEN in turn.text:
            pieces[index] = turn.text.split(IMAGE_TOKEN, 1)
            break
    return pieces


def _mark(mark: str, turn: int, piece: int, text: str) -> str:
    return f"{mark}{turn}.{piece}{mark}" if text else ""


def _walk(text: str, parts: list[str], turns: Sequence[Turn], pieces: list[list[str]], where: str) -> Rendered:
    """Find each piece in `text`. `parts`: what the template writes and the names of pieces, in turn."""
    spans: list[Span] = []
    image = None
    if not text.startswith(parts[0]):
        raise _changed(where)
    position = len(parts[0])
    image = _find_image(parts[0], 0, image)
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        turn, piece = map(int, name.split("."))
        words = pieces[turn][piece]
        variants = (words, words.rstrip(), words.lstrip(), words.strip())  # templates may trim
        kept = next((some for some in variants if text.startswith(some + literal, position)), None)
        if kept is None:
            raise _changed(where)
        spans.append(Span(position, position + len(kept), turns[turn].role))
        position += len(kept)
        image = _find_image(literal, position, image)
        position += len(literal)
    answers = sum(turn.role == "assistant" for turn in turns)
    if position != len(text) or sum(span.role == "assistant" for span in spans) != answers:
        raise _changed(where)
    return Rendered(text, tuple(spans), image)


def _find_image(literal: str, position: int, found: int | None) -> int | None:
    return position + literal.index(IMAGE_TOKEN) if found is None and IMAGE_TOKEN in literal else found


def _changed(where: str) -> DataError:
    return DataError(
        "the chat template changes a turn's text or leaves an answer out, so its place cannot be found",
        where=where,
        fix="use another chat template (model.chat_template, or the stage's template)",
    )
