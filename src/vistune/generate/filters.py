"""What a teacher may write and a visual assistant must not learn: each filter is a function with a reason code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from vistune.context import parse_context
from vistune.generate.kinds import Kind
from vistune.records import Turn

_SOURCE = r"(?:captions?|descriptions?|annotations?|bounding[ ]box(?:es)?|context|information|data|text)"
_UNSAID = r"[ ](?:explicitly[ ])?(?:mention(?:ed)?|specif(?:y|ied)|stated?|listed)\b"
_LEAK = re.compile(  # for lower case: re.IGNORECASE takes three times as long
    rf"""
    \b(?: captions?\b | captioned\b | bounding[ ]box | annotat(?:ed|ions?)\b
        | (?:the|its|their|these|given|box|normali[sz]ed)[ ]coordinates\b
        | (?:based[ ]on|according[ ]to|judging[ ](?:by|from))[ ](?:the|this|these|your)[ ](?:\w+[ ])?{_SOURCE}\b
          (?![ ](?:on|of|written|printed|shown)\b)                     # "according to the text on the sign"
        | (?:provided|given)[ ](?:\w+[ ])?{_SOURCE}\b | {_SOURCE}[ ]provided\b
        | descriptions?[ ](?:says?|states?|mentions?|does|do|indicates?|suggests?)\b
        | (?:mentioned|described|specified|stated|listed)[ ]in[ ](?:the|this|your)[ ](?:\w+[ ])?{_SOURCE}\b
        | not{_UNSAID} )
    | n't{_UNSAID}
    | \[\s*[01]?\.\d+\s*,                                              # the start of a box
    """,
    re.VERBOSE,
)
_REFUSAL = re.compile(
    r"""
    \b(?: as[ ]an?[ ](?:\w+[ ])?(?:ai|(?:language|text)(?:[ -]based)?[ ](?:ai[ ])?model)\b
        | i(?:'m|[ ]am)[ ](?:sorry|afraid|unable|not[ ]able)\b | i[ ]apologi[sz]e\b
        | i[ ](?:can(?:no|')t|can[ ]not)[ ](?:actually[ ]|directly[ ])?
          (?:(?:see|view)[ ](?:the|this|any|an)?[ ]?(?:image|picture|photo)
             | access | tell | determine | describe | provide | help | assist | answer)
        | i[ ](?:do[ ]not|don't)[ ]have[ ](?:access|enough|the[ ]ability)
        | (?:can(?:no|')t|can[ ]not)[ ]be[ ](?:determined|known|told|answered)\b
        | (?:impossible|not[ ]possible|difficult|hard|unable)[ ]to[ ](?:determine|say|tell|know)\b
        | not[ ](?:\w+[ ])?enough[ ](?:information|context|detail) )
    | n't[ ](?:\w+[ ])?enough[ ](?:information|context|detail)
    """,
    re.VERBOSE,
)
_ROLE = re.compile(
    r"""
    <image> | <\|[^|>]*\|> | </?s> | \[/?INST\] | <</?SYS>> | <(?:start|end)_of_turn> | ={3}
    | ^[ \t>*]*\#{3} | ^[ \t>*\#]*(?:user|human|assistant|system|question|answer|gpt|ai)[ \t*]*:
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a filter judges: the turns, the kind they are of, and the context text the teacher was shown."""

    kind: Kind
    context: str
    turns: tuple[Turn, ...]

    @property
    def answers(self) -> list[str]:
        """The assistant's texts."""
        return [turn.text for turn in self.turns if turn.role == "assistant"]


def turn_order(sample: Sample) -> bool:
    """The turns do not alternate, or do not begin with the user and end with the assistant."""
    roles = [turn.role for turn in sample.turns]
    return not roles or roles != ["user", "assistant"] * (len(roles) // 2)


def turn_count(sample: Sample) -> bool:
    """There are fewer or more pairs of question and answer than the kind allows."""
    return not sample.kind.turns[0] <= len(sample.answers) <= sample.kind.turns[1]


def role_marker(sample: Sample) -> bool:
    """A text holds what stands for an image, a role or a block's end in a chat template or in our own format."""
    return any(has_role_marker(turn.text) for turn in sample.turns)


def has_role_marker(text: str) -> bool:
    """Whether a text could be taken for the frame around it."""
    return _ROLE.search(text) is not None


def leak(sample: Sample) -> bool:
    """A text lets on that the teacher saw captions and boxes, not the image."""
    return any(_LEAK.search(_plain(turn.text)) for turn in sample.turns)


def refusal(sample: Sample) -> bool:
    """An answer declines to answer."""
    return any(_REFUSAL.search(_plain(text)) for text in sample.answers)


def echo(sample: Sample) -> bool:
    """An answer repeats its question, a few-shot example's answer, or the captions one after another."""
    given = _replies(sample.kind.examples)
    captions = {_words(caption) for caption in parse_context(sample.context)[0]}
    for question, answer in zip(sample.turns, sample.turns[1:], strict=False):
        if answer.role != "assistant":
            continue
        text = _words(answer.text)
        if text.startswith(_words(question.text)) or (text.count(" ") > 6 and text in given):
            return True
        if sum(caption in text for caption in captions if caption.count(" ") > 4) > 1:
            return True
    return False


def too_short(sample: Sample) -> bool:
    """An answer has fewer words than the kind allows."""
    return any(len(text.split()) < sample.kind.words[0] for text in sample.answers)


def too_long(sample: Sample) -> bool:
    """An answer has more words than the kind allows."""
    return any(len(text.split()) > sample.kind.words[1] for text in sample.answers)


FILTERS: Mapping[str, Callable[[Sample], bool]] = {
    "turn_order": turn_order,
    "turn_count": turn_count,
    "role_marker": role_marker,
    "leak": leak,
    "refusal": refusal,
    "echo": echo,
    "too_short": too_short,
    "too_long": too_long,
}
"""Each reason code and the filter that finds it. The first that does is the one a rejected sample counts under."""


def reasons(sample: Sample) -> tuple[str, ...]:
    """The reason codes of all filters that reject the sample; none: it is accepted."""
    return tuple(code for code, rejects in FILTERS.items() if rejects(sample))


def _plain(text: str) -> str:
    return text.lower().replace("\u2019", "'")


@cache
def _replies(examples: tuple[tuple[str, str], ...]) -> str:
    return _words("\n".join(reply for _, reply in examples))


def _words(text: str) -> str:
    """The words alone, lower case, single spaced, with a space at both ends so that `in` compares whole words."""
    return f" {' '.join(_WORD.findall(text.lower()))} "
