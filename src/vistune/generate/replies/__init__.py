"""A teacher's reply as turns, or the reason why it is unusable.

Both formats are accepted, whichever was requested: text with `Question:` and `Answer:` blocks between lines of `===`,
or JSON. Harmless mistakes are repaired here, so that no reply is paid for twice; every repair has a name:

`line_ends` `thinking` (thoughts) `special_tokens` (of a chat template) `wrapper` (tags or quotes around all of it)
`code_fence` `chatter` (words before or after) `marker` (`Q:`, `**Question 1:**`, `User:`, `Frage:` …) `separator`
(`---` or nothing between blocks) `markup` (bold, headings, entities; in descriptions also lists) `raw_text` (line ends
inside a JSON string) `quotes` (curly ones) `json` (commas, brackets, other quotes: json_repair) `several_objects`
`other_key` `truncated` (incomplete turns dropped).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vistune.generate.replies.cleaning import (
    is_refusal,
    patterns,
    plain_text,
    with_short_gaps,
    without_notes,
    without_thoughts,
    without_tokens,
    without_wrapper,
)
from vistune.generate.replies.json_reply import looks_like_json, looks_like_one_text, read_answer, read_pairs
from vistune.generate.replies.text import ReplyError, text_pairs, without_marker
from vistune.records import Role, Turn

__all__ = ["ParsedReply", "ReplyError", "parse_reply", "to_json"]

_FENCE = re.compile(r"```(?:[\w-]*[ \t]*\n)?(.*?)(?:\n?[ \t]*```|\Z)", re.DOTALL)
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060"))


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """The turns of a reply (one assistant turn where only an answer was requested) and the names of the repairs."""

    turns: tuple[Turn, ...]
    repairs: tuple[str, ...] = ()


def parse_reply(text: str, answer_only: bool = False, finish: str = "") -> ParsedReply:
    """The turns of a reply; `answer_only`: it answers a question of ours. Raises ReplyError.

    `finish` is the client's finish reason: after `length` the last turn is incomplete.
    """
    repairs: list[str] = []
    text = _unwrapped(text, repairs, finish)
    cut = finish == "length"
    try:
        texts = [_answer(text, repairs, cut)] if answer_only else _pairs(text, repairs, cut)
    except RecursionError:
        raise ReplyError("broken_json") from None
    except ReplyError:
        if finish == "content_filter" or is_refusal(text):
            raise ReplyError("refusal") from None
        raise
    clean = [plain_text(one, lists=answer_only) for one in texts]
    if clean != texts:
        repairs.append("markup")
    if not all(clean):
        raise ReplyError("empty_turn")
    roles: tuple[Role, ...] = ("assistant",) if answer_only else ("user", "assistant")
    turns = tuple(Turn(roles[number % len(roles)], one) for number, one in enumerate(clean))
    return ParsedReply(turns, tuple(dict.fromkeys(repairs)))


def to_json(parsed: ParsedReply) -> str:
    """The reply in the JSON format, as a teacher that follows the schema writes it."""
    texts = [turn.text for turn in parsed.turns]
    if len(texts) == 1:
        return json.dumps({"answer": texts[0]}, ensure_ascii=False)
    pairs = zip(texts[::2], texts[1::2], strict=True)
    turns = [{"question": question, "answer": answer} for question, answer in pairs]
    return json.dumps({"turns": turns}, ensure_ascii=False)


def _unwrapped(text: str, repairs: list[str], finish: str) -> str:
    """The text without thoughts, special tokens and code fences. Raises ReplyError if nothing is left."""

    def repaired(name: str, before: str, after: str) -> str:
        repairs.extend([name] if after != before else [])
        return after

    plain = text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
    text = repaired("line_ends", text, with_short_gaps(plain))
    answer, within = without_thoughts(text)
    if within or (
        not answer.strip() and finish in ("length", "thinking")
    ):  # some servers send no thoughts, but bill them
        raise ReplyError("unfinished_thinking")
    text = repaired("thinking", text, answer)
    text = repaired("special_tokens", text, without_tokens(text))
    fenced = _FENCE.search(text)
    if fenced and _only_chatter(text[: fenced.start()], text[fenced.end() :]):
        around = text[: fenced.start()] + text[fenced.end() :]
        repairs += ["code_fence", "chatter"] if around.strip() else ["code_fence"]
        text = fenced[1]
    text = repaired("wrapper", text, without_wrapper(text))
    if not text.strip():
        raise ReplyError("refusal" if finish == "content_filter" else "empty_reply")
    return text


def _only_chatter(before: str, after: str) -> bool:
    """Whether a code block has at most a sentence on either side."""
    return all(len(part.split()) <= 30 and "===" not in part for part in (before, after))


def _pairs(text: str, repairs: list[str], cut: bool) -> list[str]:
    """Questions and answers in turn."""
    if looks_like_json(text):
        pairs = read_pairs(text, repairs)
    else:
        pairs = text_pairs(_without_notes(text, repairs), repairs, cut)
    return [part for pair in pairs for part in pair]


def _answer(text: str, repairs: list[str], cut: bool) -> str:
    if looks_like_json(text) or looks_like_one_text(text):
        return read_answer(text, repairs)
    if is_refusal(text):
        raise ReplyError("refusal")
    if cut:
        raise ReplyError("truncated")
    answer = _without_notes(text.strip(), repairs)
    for pattern in patterns("answer"):
        shorter = pattern.sub("", answer, count=1).strip()
        if shorter and shorter != answer:
            repairs.append("chatter")
            answer = shorter
    try:
        pairs = text_pairs(answer, [])
    except ReplyError:
        pairs = []
    answer = pairs[0][1] if len(pairs) == 1 else without_marker(answer, repairs)
    repairs += ["marker"] if len(pairs) == 1 else []
    if not answer:
        raise ReplyError("empty_reply")
    return answer


def _without_notes(text: str, repairs: list[str]) -> str:
    shorter = without_notes(text)
    if shorter.strip(" \n=") != text.strip(" \n="):
        repairs.append("chatter")
    return shorter.strip() if shorter != text else text
