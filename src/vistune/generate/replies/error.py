"""Why a reply cannot be used."""

from __future__ import annotations


class ReplyError(Exception):
    """A reply has neither the requested form nor one that can be repaired; the message is a reason code.

    `empty_reply`, `unfinished_thinking`, `unmarked_block` (neither question nor answer), `wrong_order` (turns do not
    alternate, question first), `empty_turn`, `unanswered` (a question alone), `truncated` (nothing whole is left),
    `broken_json`, `wrong_schema`.
    """
