"""Conversations as token ids and the mask of target tokens, from one tokenisation of the rendered text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from vistune.data.chat_template import before_answer, end_of_turn, exchange, special_tokens
from vistune.data.image_tokens import ImageGrid, ImageTokens
from vistune.data.render import Rendered, Renderer, image_marks
from vistune.data.tokenizer import TemplateTokenizer
from vistune.errors import CheckpointError, DataError
from vistune.records import IMAGE_TOKEN, Conversation, Turn

Ids = NDArray[np.int32]
"""Token ids or places (n)."""
ImageSize = Callable[[str], tuple[int, int]]
"""An image's width and height by its name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation ready for training: token ids (S), the mask of targets (S), its images and their places (M).

    `image_at` holds the places of all images' tokens, one image after the other. `rejected` is the same conversation
    with the answer that this one is preferred to.
    """

    id: str
    input_ids: Ids
    targets: NDArray[np.bool_]
    images: tuple[str, ...]
    image_tokens: tuple[ImageTokens, ...]
    image_at: Ids
    dropped_turns: int = 0
    rejected: Sample | None = None

    @property
    def versions(self) -> tuple[Sample, ...]:
        """The sample, and the rejected one if it is one of a pair."""
        return (self, self.rejected) if self.rejected else (self,)


@dataclass(frozen=True, slots=True)
class _Draft:
    """The first `turns` turns of a conversation as text, on their way to being a sample."""

    rendered: Rendered
    text: str
    starts: list[int]
    turns: int
    images: list[ImageTokens]
    where: str


class PromptEncoder:
    """Encodes prompts with one tokenizer and chat template.

    Special tokens come from the template alone: where a turn's text spells one, it is encoded as the ordinary text
    it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._image_id = special_tokens(tokenizer)[IMAGE_TOKEN]
        self._tokenize = TemplateTokenizer(tokenizer)
        self._render = Renderer(tokenizer, template, self._tokenize.spell)

    def prompt(self, turns: Sequence[Turn], *, images: Sequence[ImageTokens]) -> list[int]:
        """The token ids up to where the assistant's next answer begins; the first `<image>` are `images`.

        Raises DataError if the template refuses the turns or changes them.
        """
        [encoding] = self._tokenize([self._prompt_text(turns, len(images))], offsets=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        expanded: list[int] = ids.repeat(self._sizes(ids, images)).tolist()
        return expanded

    def answers(self, turns: Sequence[Turn], texts: Sequence[str], *, images: int) -> list[list[int]]:
        """The token ids of each text as the assistant's next answer, which follow those of `prompt`; without its end.

        Raises DataError as `prompt`, and if the tokenizer joins the prompt's end with a text.
        """
        prompt = self._prompt_text(turns, images)
        own, *whole = self._tokenize([prompt, *(prompt + self._before_answer + text for text in texts)], offsets=False)
        length = len(own.ids)
        for text, encoding in zip(texts, whole, strict=True):
            if encoding.ids[:length] != own.ids or len(encoding.ids) == length:
                raise DataError(
                    f"{text!r} as an answer has no tokens of its own",
                    where="prompt",
                    fix="write the choice in other words",
                )
        return [encoding.ids[length:] for encoding in whole]

    @cached_property
    def _before_answer(self) -> str:
        return self._tokenize.spell(before_answer(self._tokenizer, self._template))

    def _prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        rendered = self._render(turns, images=images, prompt=True, where="prompt")
        parts = [rendered.words[0]]
        for text, words in zip(rendered.texts, rendered.words[1:], strict=True):
            parts += [text, words]
        return "".join(parts)

    def _sizes(self, ids: Ids, images: Sequence[ImageTokens]) -> NDArray[np.int64]:
        """How often each token stands in the whole sequence, where an image's token stands for each of its tokens."""
        sizes = np.ones(len(ids), dtype=np.int64)
        sizes[ids == self._image_id] = [len(one) for one in images]
        return sizes


class Encoder(PromptEncoder):
    """Encodes whole conversations, too, for a model that reads images by `grid`.

    Targets are exactly what the model has to generate after the generation prompt: an answer, with the space that a
    template puts between the two, and its end-of-turn token, with the white space before it.

    Raises CheckpointError if the template does not end an answer with the tokenizer's end-of-sequence token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, grid: ImageGrid) -> None:
        end = end_of_turn(tokenizer, template)
        if end != tokenizer.eos_token:
            what = f"the chat template ends an answer with {end!r}, the model with {tokenizer.eos_token!r}"
            raise CheckpointError(what, where=tokenizer.name_or_path, fix="use the chat template of the model's recipe")
        super().__init__(tokenizer, template)
        self._grid = grid
        special = special_tokens(tokenizer)
        self._special, self._end_id = frozenset(special.values()), special[end]
        before, after, _ = map(self._tokenize.spell, exchange(tokenizer, template))
        clean = self._tokenize.cuts_cleanly(before.removesuffix(self._before_answer), f"{self._before_answer}x{after}")
        self._cut = self._tokenize.cut if clean else ""
        self._end = re.compile(r"\s*" + re.escape(self._tokenize.spell(end)))

    def encode(self, conversation: Conversation, max_length: int, size: ImageSize | None = None) -> Sample:
        """The sample; a conversation longer than `max_length` loses whole exchanges from its end.

        `size` gives an image's width and height by its name; without it every image has as many tokens. Raises
        DataError with the conversation's id if its first answer does not fit, if the template refuses or changes it,
        or if it has no target; and that of `size`.
        """
        [outcome] = self.encode_batch([conversation], max_length, size)
        if isinstance(outcome, DataError):
            raise outcome
        return outcome

    def encode_batch(
        self, conversations: Sequence[Conversation], max_length: int, size: ImageSize | None = None
    ) -> list[Sample | DataError]:
        """The result or the error of `encode` for each conversation, tokenised together; of a pair both answers."""
        pairs = [index for index, conversation in enumerate(conversations) if conversation.rejected]
        others = [_other(conversations[index]) for index in pairs]
        outcomes = self._encode_batch([*conversations, *others], max_length, size)
        for index, other in zip(pairs, outcomes[len(conversations) :], strict=True):
            outcomes[index] = _pair(outcomes[index], other)
        return outcomes[: len(conversations)]

    def _encode_batch(
        self, conversations: Sequence[Conversation], max_length: int, size: ImageSize | None
    ) -> list[Sample | DataError]:
        outcomes: dict[int, Sample | DataError] = {}
        turns = {index: len(conversation.turns) for index, conversation in enumerate(conversations)}
        while turns:
            drafts: dict[int, _Draft] = {}
            for index, kept in turns.items():
                try:
                    drafts[index] = self._draft(conversations[index], kept, size)
                except DataError as error:
                    outcomes[index] = error
            encodings = self._tokenize([draft.text for draft in drafts.values()], offsets=not self._cut)
            turns = {}
            for (index, draft), encoding in zip(drafts.items(), encodings, strict=True):
                outcome = self._finish(conversations[index], draft, encoding, max_length)
                if isinstance(outcome, int):
                    turns[index] = outcome
                else:
                    outcomes[index] = outcome
        return [outcomes[index] for index in range(len(conversations))]

    def _draft(self, conversation: Conversation, turns: int, size: ImageSize | None) -> _Draft:
        where = f"conversation {conversation.id}"
        kept = conversation.turns[:turns]
        images = min(image_marks(kept), len(conversation.images))
        rendered = self._render(kept, images=images, where=where)
        for index in rendered.answers:
            if not self._end.match(rendered.words[index + 1]):
                after = rendered.words[index + 1][:20]
                what = f"the chat template ends an answer with {after!r}, not as others"
                raise DataError(what, where=where, fix="set model.chat_template to one of ours, e.g. vicuna_v1")
        tokens = [self._grid.tokens(partial(size or _unknown, name)) for name in conversation.images[:images]]
        return _Draft(rendered, *self._join(rendered, self._cut), turns, tokens, where)

    def _join(self, rendered: Rendered, cut: str) -> tuple[str, list[int]]:
        """The whole text, and where each answer's target begins; `cut` goes before each."""
        parts, starts, length = [rendered.words[0]], [], len(rendered.words[0])
        for index, (text, words) in enumerate(zip(rendered.texts, rendered.words[1:], strict=True)):
            if index in rendered.answers:
                before = parts.pop()
                prompt = before.removesuffix(self._before_answer)
                parts += [prompt, cut, before[len(prompt) :]]
                length += len(cut)
                starts.append(length - len(before) + len(prompt))
            parts += [text, words]
            length += len(text) + len(words)
        return "".join(parts), starts

    def _finish(
        self, conversation: Conversation, draft: _Draft, encoding: Encoding, max_length: int
    ) -> Sample | DataError | int:
        """The sample, or its error, or the number of turns to keep of one that is too long."""
        ids, spans = self._spans(draft, encoding)
        if not spans:
            return DataError("no token of it is a target", where=draft.where)
        ids = ids[: spans[-1][1] + 1]  # there are no targets after it
        images = draft.images[: np.count_nonzero(ids == self._image_id)]
        sizes = self._sizes(ids, images)
        lengths = sizes.cumsum()  # (S), up to and with each token
        if lengths[-1] > max_length:
            too_long = sum(int(lengths[last] > max_length) for _, last in spans)
            if too_long < len(spans):
                return draft.turns - 2 * too_long
            what = f"its first answer does not fit in {max_length} tokens"
            return DataError(what, where=draft.where, fix="raise the stage's max_length, or shorten the conversation")
        targets = np.zeros(len(ids), dtype=np.bool_)
        answers = [turn for turn in conversation.turns[: draft.turns] if turn.role == "assistant"]
        for (first, last), answer in zip(spans, answers, strict=True):
            targets[first : last + 1] = answer.learned
        if not targets.any():
            fits = draft.turns == len(conversation.turns)
            what = "no token of it is a target" if fits else f"the answer to learn does not fit in {max_length} tokens"
            return DataError(what, where=draft.where, fix="" if fits else "raise the stage's max_length")
        ids, targets = ids.repeat(sizes), targets.repeat(sizes)
        image_at = np.flatnonzero(ids == self._image_id).astype(np.int32)
        names, dropped = conversation.images[: len(images)], len(conversation.turns) - draft.turns
        return Sample(conversation.id, ids, targets, names, tuple(images), image_at, dropped)

    def _spans(self, draft: _Draft, encoding: Encoding) -> tuple[Ids, list[tuple[int, int]]]:
        """The token ids, images as one token each, and the first and last token of each answer."""
        firsts = [] if self._cut else self._firsts(draft, encoding)
        if firsts is None:
            [encoding] = self._tokenize([self._join(draft.rendered, self._tokenize.cut)[0]])
        ids = np.array(encoding.ids, dtype=np.int32)
        if not firsts:
            cuts = np.flatnonzero(ids == self._tokenize.cut_id)
            firsts = (cuts - np.arange(len(cuts))).tolist()
            ids = np.delete(ids, cuts)
        ends = np.flatnonzero(ids == self._end_id)
        return ids, [(first, int(ends[ends.searchsorted(first)])) for first in firsts]

    def _firsts(self, draft: _Draft, encoding: Encoding) -> list[int] | None:
        """Each answer's first token, or None if a token holds the end of a prompt, too: no model generates such."""
        firsts = []
        for start in draft.starts:
            at = start
            while (token := encoding.char_to_token(at)) is None:  # a tokenizer may drop white space
                at += 1
            if encoding.ids[token] in self._special and encoding.ids[token] != self._end_id:
                token += 1  # a marker that swallows the white space after it
            chars = encoding.token_to_chars(token)
            if chars is None or chars[0] < start:
                return None
            firsts.append(token)
        return firsts


def _other(pair: Conversation) -> Conversation:
    """The conversation with the rejected answer."""
    *before, chosen = pair.turns
    return replace(pair, turns=(*before, replace(chosen, text=pair.rejected)), rejected="")


def _pair(chosen: Sample | DataError, rejected: Sample | DataError) -> Sample | DataError:
    if isinstance(chosen, DataError):
        return chosen
    return rejected if isinstance(rejected, DataError) else replace(chosen, rejected=rejected)


def _unknown(name: str) -> tuple[int, int]:
    raise ValueError(f"the size of {name} is needed for its number of tokens")
