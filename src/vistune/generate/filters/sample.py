"""What a filter judges: a conversation about an image, and what it states clause by clause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from vistune.generate.kinds import Kind
from vistune.records import Box, ImageRecord, Turn
from vistune.resources import load_yaml
from vistune.scene.english import tokens_of, words_of
from vistune.scene.mentions import Mention, MentionFinder, concept, concept_finder

_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})
BOX = re.compile(r"\[\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*\]")
"""A box in a text: [x1, y1, x2, y2]."""
IS_THERE = re.compile(
    r"^(?:in (?:the|this) (?:image|picture|photo|scene),? )?(?:(?:is|are) there |(?:can|do) you (?:see|spot|notice) "
    r"|does (?:the|this) (?:image|picture|photo|scene) (?:show|include|contain|have) "
    r"|tell me (?:if|whether) there (?:is|are) )(?:an? |any )?(.+?)[?.]?$"
)
"""A question for the existence of an object, which it names in its group."""
_QUOTED = re.compile(r'"[^"\n]*"')
_SENTENCE = re.compile(r"([^.!?;\n]+)([.!?;]?)")
_CONTRAST = re.compile(r"\b(?:but|while|whereas|although|though|however)\b")


@cache
def word_list(name: str) -> frozenset[str]:
    """The words of that name in words.yaml."""
    return frozenset(load_yaml("vistune.generate.filters", "words.yaml")[name].split())


class Text:
    """A text for matching: `plain` is lower case with straight quotes, `words` its words in order.

    `spaced` are the words alone, single spaced, with a space at both ends so that `in` compares whole words.
    """

    def __init__(self, text: str) -> None:
        self.plain = text.lower() if text.isascii() else text.lower().translate(_QUOTES)
        self.words = words_of(self.plain)
        self.spaced = f" {' '.join(self.words)} "

    @cached_property
    def unquoted(self) -> str:
        """`plain` without quotations: the text of a sign is not a statement of the answer."""
        return _QUOTED.sub('""', self.plain)


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence as words, punctuation among them, with the objects it names."""

    words: list[str]
    mentions: list[Mention]

    def before(self, at: int) -> str:
        """The word before that place; empty at the beginning."""
        return self.words[at - 1] if 0 < at <= len(self.words) else ""

    def after(self, end: int) -> str:
        """The word at that place; empty at the end."""
        return self.words[end] if end < len(self.words) else ""


def clauses(text: Text, finder: MentionFinder) -> Iterator[Clause]:
    """The clauses that state something and name an object: no questions, denials, possibilities or comparisons."""
    doubts = (word_list("negations"), word_list("unreal"), word_list("hedges"))
    for sentence, end in _SENTENCE.findall(text.unquoted):
        if end == "?":
            continue
        for part in _CONTRAST.split(sentence):
            words = tokens_of(part)
            if all(doubt.isdisjoint(words) for doubt in doubts) and (mentions := finder.mentions(words)):
                yield Clause(words, mentions)


@dataclass(frozen=True)
class Sample:
    """A conversation to judge: its kind, its turns, and the annotations of its image, shown to the teacher or not.

    `vocabulary` are the categories of which the data annotates every object, none if it does so of none; None: unknown.
    Mentions are judged of these and of COCO's.
    """

    kind: Kind
    record: ImageRecord
    turns: tuple[Turn, ...]
    vocabulary: tuple[str, ...] | None = None

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The turns' texts, in order."""
        return tuple(Text(turn.text) for turn in self.turns)

    @cached_property
    def answers(self) -> tuple[Text, ...]:
        """The assistant's texts."""
        return tuple(text for turn, text in zip(self.turns, self.texts, strict=True) if turn.role == "assistant")

    @cached_property
    def exchanges(self) -> tuple[tuple[Text, Text], ...]:
        """Each question of the user's with the answer that follows it."""
        roles = [turn.role for turn in self.turns]
        pairs = zip(roles, roles[1:], self.texts, self.texts[1:], strict=False)
        return tuple((q, a) for first, second, q, a in pairs if (first, second) == ("user", "assistant"))

    @cached_property
    def statements(self) -> dict[Text, list[Clause]]:
        """What each answer states."""
        return {answer: list(clauses(answer, self.finder)) for answer in self.answers}

    @cached_property
    def captions(self) -> tuple[Text, ...]:
        """The image's captions."""
        return tuple(map(Text, self.record.captions))

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The image's boxes, each with the concept of its category (`vistune.scene.mentions`)."""
        return tuple(Box(concept(b.category), b.x1, b.y1, b.x2, b.y2, b.crowd) for b in self.record.boxes)

    @property
    def finder(self) -> MentionFinder:
        """Finds the objects that a text names, as concepts."""
        return concept_finder(self.vocabulary or ())
