"""Texts that step out of their role: chat template markers, dialogue about the dialogue, turned-round turns."""

from __future__ import annotations

import re

from vistune.generate.filters.phrases import phrases
from vistune.generate.filters.sample import Sample, Text

_NAME = r"(?:user|human|assistant|system|question|answer|gpt|chatgpt|ai|bot|model|instruction|response|q|a)"
_MARKER = re.compile(
    rf"""
    <image> | <\|[^|>]*\|> | </?s> | \[/?inst\] | <</?sys>> | <(?:start|end)_of_turn> | <(?:bos|eos|pad|unk)> | ={{3}}
    | </?(?:\w+:)?(?:think|thinking|reasoning)>
    | ^[ \t>*]*\#{{3}} | ^[ \t>*_\#\[-]*{_NAME}(?:[ ]?\#?\d{{1,2}})?[ \t*_\]]*:
    | [.?!"')*][ ]+\**(?:user|human|assistant|question|answer)\**:[ ]   # the next turn within a line
    """,
    re.VERBOSE | re.MULTILINE,
)
_STATES = re.compile(
    r"(?:yes|no|sure|certainly|there (?:is|are)"
    r"|(?:the|this|a|an) [^?]*?\b(?:is|are|shows?|features?|depicts?|has|have)\b)"
)
_ASKS = re.compile(r"\b(?:what|which|who|where|when|why|how|tell|describe|explain|can|could|please|give|list|name)\b")
_ASKING = re.compile(
    r"(?:(?:can|could|would|do|does|did|is|are) (?:you|there|the|it|this|that|they)|what|where|who|which|how|why)\b"
)


def role_marker(sample: Sample) -> bool:
    """A text holds what stands for an image, a role or a block's end in a chat template or in our own format."""
    return any(_marked(text.plain) for text in sample.texts)


def has_role_marker(text: str) -> bool:
    """Whether a text could be taken for the frame around it."""
    return _marked(text.lower())


def _marked(plain: str) -> bool:
    possible = "<" in plain or "[" in plain or "=" in plain or "#" in plain or ":" in plain
    return possible and _MARKER.search(plain) is not None


def role_confusion(sample: Sample) -> bool:
    """A text talks about the dialogue in place of taking part, a user answers, or an assistant asks."""
    if any(phrases("confused").having(sample, sample.texts)):
        return True
    return any(_is_statement(question) or _is_question(answer) for question, answer in sample.exchanges)


def _is_statement(text: Text) -> bool:
    plain = text.plain.strip()
    return "?" not in plain and len(text.words) > 3 and bool(_STATES.match(plain)) and not _ASKS.search(plain)


def _is_question(text: Text) -> bool:
    plain = text.plain.strip()
    return plain.endswith("?") and not re.search(r"[.!:]\s", plain) and bool(_ASKING.match(plain))
