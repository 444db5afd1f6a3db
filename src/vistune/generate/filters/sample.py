"""What a filter judges, with what several filters need of it worked out once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain

from vistune.generate.kinds import Kind
from vistune.records import Box, ImageRecord, Turn
from vistune.scene.context import parse_context
from vistune.scene.english import words_of

_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})
_QUOTED = re.compile(r'"[^"\n]*"')


class Text:
    """One turn's text for matching: `plain` is lower case with straight quotes, `words` its words in order.

    `spaced` are the words alone, single spaced, with a space at both ends so that `in` compares whole words.
    """

    __slots__ = ("known", "plain", "spaced", "words")

    def __init__(self, text: str) -> None:
        self.plain = text.lower() if text.isascii() else text.lower().translate(_QUOTES)
        self.words = words_of(self.plain)
        self.known = frozenset(self.words)
        self.spaced = f" {' '.join(self.words)} "

    @property
    def unquoted(self) -> str:
        """`plain` without what it quotes: what a sign says is not what the answer says."""
        return _QUOTED.sub('""', self.plain) if '"' in self.plain else self.plain


@lru_cache(maxsize=64)  # several filters, and the kinds of an image one after the other, look at the same ones
def caption_text(caption: str) -> Text:
    """A caption's text."""
    return Text(caption)


@dataclass(frozen=True)
class Sample:
    """A conversation to judge: its kind, the context the teacher was shown, the turns.

    With `record` the judgement is by all the annotations the image has, not by what the teacher was shown of them.
    `vocabulary` are categories that the data annotates beside COCO's; of what nobody annotates no mention is judged.
    """

    kind: Kind
    context: str
    turns: tuple[Turn, ...]
    record: ImageRecord | None = None
    vocabulary: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The turns' texts, in order."""
        return tuple(Text(turn.text) for turn in self.turns)

    @cached_property
    def known(self) -> frozenset[str]:
        """The words of all texts: most filters need not look at a sample that has none of theirs."""
        return frozenset(chain.from_iterable(text.words for text in self.texts))

    @cached_property
    def answers(self) -> tuple[Text, ...]:
        """The assistant's texts."""
        return tuple(text for turn, text in zip(self.turns, self.texts, strict=True) if turn.role == "assistant")

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The assistant's texts' numbers of words, as they are spaced."""
        return tuple(len(text.plain.split()) for text in self.answers)

    @cached_property
    def exchanges(self) -> tuple[tuple[Text, Text], ...]:
        """Each question of the user's with the answer that follows it."""
        roles = [turn.role for turn in self.turns]
        pairs = zip(roles, roles[1:], self.texts, self.texts[1:], strict=False)
        return tuple((q, a) for first, second, q, a in pairs if (first, second) == ("user", "assistant"))

    @cached_property
    def shown(self) -> tuple[tuple[str, ...], tuple[Box, ...]]:
        """The captions and boxes of the context."""
        return parse_context(self.context)

    @property
    def captions(self) -> tuple[str, ...]:
        """All the captions the image has, as far as known."""
        return self.record.captions if self.record else self.shown[0]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All the boxes the image has, as far as known."""
        return self.record.boxes if self.record else self.shown[1]
