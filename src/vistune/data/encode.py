"""Conversations as token ids and the mask of target tokens, from one tokenisation of the rendered text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vistune.data.render import Rendered, Renderer, Span, image_marks
from vistune.data.templates import special_tokens
from vistune.errors import DataError
from vistune.records import IMAGE_TOKEN, Conversation, Turn


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation ready for training: token ids (S), which to learn (S), its images and where they stand (M).

    `image_at` holds the places of all images' tokens, one image after the other, each of as many tokens.
    """

    id: str
    input_ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    images: tuple[str, ...]
    image_at: NDArray[np.int32]
    dropped_turns: int = 0


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and the characters it covers."""

    id: int
    start: int
    end: int


class Encoder:
    """Encodes with one tokenizer and chat template; an image takes `image_tokens` tokens.

    A token is a target if any of its characters belongs to an answer or its end-of-turn token. (So the space
    that a tokenizer joins to an answer's first word counts: it is what the model has to write.) Special tokens
    come from the template alone: where a turn's text spells one, it is encoded as the ordinary text it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, image_tokens: int) -> None:
        self._tokenizer, self._image_tokens = tokenizer, image_tokens
        self._render = Renderer(tokenizer, template)
        self._special = set(special_tokens(tokenizer).values())
        self._image_id = special_tokens(tokenizer)[IMAGE_TOKEN]
        self._end = re.compile(r"\s*" + re.escape(str(tokenizer.eos_token)))

    def encode(self, conversation: Conversation, max_length: int) -> Sample:
        """The sample; a conversation longer than `max_length` loses whole exchanges from its end.

        Raises DataError with the conversation's id if its first answer does not fit.
        """
        where = f"conversation {conversation.id}"
        turns = conversation.turns
        while len(turns) > 1:  # a system's turn alone is none
            images = conversation.images[: image_marks(turns)]
            rendered = self._render(turns, images=len(images), where=where)
            tokens = self._tokenize(rendered)
            if len(tokens) <= max_length:
                spans = [self._answer(rendered, span, where) for span in rendered.spans if span.role == "assistant"]
                ids = np.array([token.id for token in tokens], dtype=np.int32)
                targets = _mark_targets(tokens, spans)
                dropped = len(conversation.turns) - len(turns)
                if not targets.any():
                    raise DataError("no token of it is a target", where=where)
                image_at = np.flatnonzero(ids == self._image_id).astype(np.int32)
                return Sample(conversation.id, ids, targets, images, image_at, dropped)
            turns = turns[:-2]
        fix = "raise the stage's max_length, or shorten the conversation"
        raise DataError(f"its first answer does not fit in {max_length} tokens", where=where, fix=fix)

    def encode_all(self, conversations: Iterable[Conversation], max_length: int) -> list[Sample]:
        """All samples, in order."""
        return [self.encode(conversation, max_length) for conversation in conversations]

    def prompt(self, turns: Sequence[Turn], *, images: int) -> list[int]:
        """The token ids up to where the assistant's next answer begins; the first `images` `<image>` are images."""
        rendered = self._render(turns, images=images, prompt=True, where="prompt")
        return [token.id for token in self._tokenize(rendered)]

    def _answer(self, rendered: Rendered, span: Span, where: str) -> tuple[int, int]:
        """The characters of an answer with its end-of-turn token."""
        end = self._end.match(rendered.text, span.end)
        if end is None:
            after = rendered.text[span.end : span.end + 20]
            raise DataError(f"an answer is followed by {after!r}, not by {self._tokenizer.eos_token!r}", where=where)
        return span.start, end.end()

    def _tokenize(self, rendered: Rendered) -> list[_Token]:
        encoding = self._tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
        tokens: list[_Token] = []
        last = 0
        for index, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
            if index == self._image_id and any(start <= image < end for image in rendered.images):
                tokens += [_Token(index, start, end)] * self._image_tokens
            elif index in self._special and any(start < span.end and span.start < end for span in rendered.spans):
                tokens += self._as_text(rendered.text[start:end], start)
            else:
                # offsets may leave out white space that a token holds: it begins where the one before ends
                tokens.append(_Token(index, min(start, last), end))
            last = max(last, end)
        return tokens

    def _as_text(self, text: str, position: int) -> list[_Token]:
        """What spells a special token as ordinary tokens.

        A letter or line break goes before and is taken off again, so that no tokenizer adds a leading space.
        """
        for lead in ("a", "\n", ""):
            encoding = self._tokenizer(
                lead + text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True
            )
            ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
            first = next(i for i, (_, end) in enumerate(offsets) if end > len(lead))
            if offsets[first][0] >= len(lead):
                break
        shift = position - len(lead)
        return [_Token(i, a + shift, b + shift) for i, (a, b) in zip(ids[first:], offsets[first:], strict=True)]


def _mark_targets(tokens: list[_Token], spans: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which tokens lie in one of the spans, at least in part; both are in order."""
    starts, ends = np.array([(token.start, token.end) for token in tokens]).T
    targets = np.zeros(len(tokens), dtype=np.bool_)
    for start, end in spans:
        targets |= ((ends > start) | ((starts == start) & (ends == start))) & (starts < end)
    return targets
