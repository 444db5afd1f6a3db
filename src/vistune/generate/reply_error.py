"""Why a reply cannot be used."""

from __future__ import annotations


class ReplyError(Exception):
    """A reply does not have the form that was asked for, nor one that can be repaired; the message is a reason code.

    `empty_reply`, `unfinished_thinking`, `unmarked_block` (neither question nor answer), `wrong_order` (not in turns,
    question first), `empty_turn`, `unanswered` (a question alone), `truncated` (nothing whole is left), `broken_json`,
    `wrong_schema`.
    """
