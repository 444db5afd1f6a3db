"""Replies in the text format: `Question:` and `Answer:` blocks between lines of `===`."""

from __future__ import annotations

import re

_SEPARATOR = re.compile(r"^[ \t*_`]*={3,}[ \t*_`]*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$", re.MULTILINE)
_STRICT = re.compile(r"\s*(question|answer)[ \t]*:", re.IGNORECASE)
_LOOSE = re.compile(
    r"^[ \t>#*_-]*(?:\d+[.)][ \t]*)?[*_]{0,2}(question|answer|q|a)[ \t]*\#?\d*[ \t]*[*_]{0,2}[ \t]*[:\uff1a][*_]{0,2}",
    re.IGNORECASE | re.MULTILINE,
)
_Block = tuple[str, str]
"""A block's role, `q` or `a`, and its text."""


class ReplyError(Exception):
    """A reply has neither the requested form nor one that can be repaired; the message is a reason code.

    `empty_reply`, `unfinished_thinking`, `unmarked_block` (neither question nor answer), `wrong_order` (turns do not
    alternate, question first), `empty_turn`, `unanswered` (a question alone), `truncated` (nothing whole is left),
    `broken_json`, `wrong_schema`.
    """


def text_pairs(text: str, repairs: list[str], cut: bool = False) -> list[tuple[str, str]]:
    """The questions with their answers; `cut`: the reply's last block is not whole. Raises ReplyError."""
    blocks = _blocks(text, repairs)
    if not blocks:
        raise ReplyError("empty_reply")
    for index, (role, _) in enumerate(blocks):
        if role != "qa"[index % 2]:
            raise ReplyError("wrong_order")
    if len(blocks) % 2:
        if len(blocks) == 1:
            raise ReplyError("unanswered")
        blocks.pop()
        repairs.append("truncated")
    elif cut or (not blocks[-1][1] and len(blocks) > 2):
        del blocks[-2:]
        repairs.append("truncated")
    if not blocks:
        raise ReplyError("truncated")
    texts = [text for _, text in blocks]
    if not all(texts):
        raise ReplyError("empty_turn")
    return list(zip(texts[::2], texts[1::2], strict=True))


def without_marker(text: str, repairs: list[str]) -> str:
    """An answer without an `Answer:` at its head."""
    marker = _LOOSE.match(text)
    if not marker or marker[1].lower() != "answer":
        return text
    repairs.append("marker")
    return text[marker.end() :].strip()


def _blocks(text: str, repairs: list[str]) -> list[_Block]:
    parts = _SEPARATOR.split(text)
    if len(parts) == 1 and _RULE.search(text):
        parts = _RULE.split(text)
        repairs.append("separator")
    parts = [part for part in parts if part.strip()]
    found: list[_Block] = []
    for index, part in enumerate(parts):
        marked = _marked(part, repairs, first=not found, maximum=2 if len(parts) > 1 else None)
        if marked:
            found += marked
        elif index == 0 or (index == len(parts) - 1 and found and found[-1][0] == "a"):
            repairs.append("chatter")  # before the first question or after the last answer
        else:
            raise ReplyError("unmarked_block")
    if parts and not found:
        raise ReplyError("unmarked_block")
    return found


def _marked(part: str, repairs: list[str], first: bool, maximum: int | None) -> list[_Block]:
    """The blocks of a part, more than one where a separator is missing; none if it does not begin with a marker.

    Where there are separators, one may be missing, but a part with more than `maximum` markers quotes some of them.
    """
    markers = list(_LOOSE.finditer(part))
    if not markers or (part[: markers[0].start()].strip() and not first):
        return []
    short = len(markers[0][1]) == 1  # "A: red" within an answer is no marker where they are whole words
    markers = [marker for marker in markers if (len(marker[1]) == 1) == short]
    if part[: markers[0].start()].strip():
        repairs.append("chatter")
    if maximum and len(markers) > maximum:
        raise ReplyError("wrong_order")
    if not all(_STRICT.fullmatch(part, marker.start(), marker.end()) for marker in markers):
        repairs.append("marker")
    if len(markers) > 1:
        repairs.append("separator")
    ends = [marker.start() for marker in markers[1:]] + [len(part)]
    return [(marker[1][0].lower(), part[marker.end() : end].strip()) for marker, end in zip(markers, ends, strict=True)]
