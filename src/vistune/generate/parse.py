"""A teacher's reply as turns, or the reason why it is none."""

from __future__ import annotations

import re

from vistune.records import Turn

_SEPARATOR = re.compile(r"^[ \t]*={3,}[ \t]*$", re.MULTILINE)
_MARKER = re.compile(r"\s*(question|answer)[ \t]*:", re.IGNORECASE)


class ReplyError(Exception):
    """A reply does not have the form that was asked for; the message is a reason code."""


def parse_answer(text: str, question: str) -> tuple[Turn, ...]:
    """The turns where the reply is the answer alone. Raises ReplyError `empty_reply`."""
    if not text.strip():
        raise ReplyError("empty_reply")
    return Turn("user", question), Turn("assistant", text.strip())


def parse_dialogue(text: str) -> tuple[Turn, ...]:
    """The turns where the reply is `Question:` and `Answer:` blocks between lines of `===`.

    Raises ReplyError: `empty_reply`, `unmarked_block` (neither question nor answer), `wrong_order` (not in
    turns, question first), `empty_turn`, `unanswered` (ends with a question).
    """
    blocks = [block for block in _SEPARATOR.split(text.replace("\r\n", "\n")) if block.strip()]
    if not blocks:
        raise ReplyError("empty_reply")
    turns = tuple(map(_turn, blocks))
    for index, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[index % 2]:
            raise ReplyError("wrong_order")
        if not turn.text:
            raise ReplyError("empty_turn")
    if len(turns) % 2:
        raise ReplyError("unanswered")
    return turns


def _turn(block: str) -> Turn:
    marker = _MARKER.match(block)
    if not marker:
        raise ReplyError("unmarked_block")
    return Turn("user" if marker[1].lower() == "question" else "assistant", block[marker.end() :].strip())
