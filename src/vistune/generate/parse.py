"""A teacher's reply as turns, or the reason why it is none.

Either format is read, whatever was asked for: text with `Question:` and `Answer:` blocks between lines of `===`, or
JSON. What is harmless is repaired here, so that nothing is paid for twice; every repair has a name:

`line_ends` `thinking` (a leading <think> block) `code_fence` `chatter` (words before or after) `marker` (`Q:`,
`**Question 1:**` …) `separator` (`---` or nothing between blocks) `trailing_comma` `quotes` (curly or single ones)
`raw_text` (line ends inside a JSON string) `several_objects` `truncated` (what is whole is kept, the rest dropped).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from vistune.generate.parse_json import looks_like_json, read_answer, read_other, read_pairs
from vistune.generate.parse_text import text_pairs, without_marker
from vistune.generate.reply_error import ReplyError
from vistune.records import Turn
from vistune.resources import load_yaml

__all__ = ["Parsed", "ReplyError", "parse_answer", "parse_dialogue", "parse_reply", "to_json"]

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_THINK = re.compile(r"\s*<(think|thinking|reasoning)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_OPEN_THINK = re.compile(r"\s*<(?:think|thinking|reasoning)>", re.IGNORECASE)
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060"))


@dataclass(frozen=True, slots=True)
class Parsed:
    """The turns of a reply, the assistant's alone where only an answer was asked for, and what was repaired."""

    turns: tuple[Turn, ...]
    repairs: tuple[str, ...] = ()


def parse_reply(text: str, alone: bool = False, finish: str = "") -> Parsed:
    """The turns of a reply; `alone`: it is an answer without a question. Raises ReplyError.

    `finish` is the client's reason for its end: after `length` the last turn is not whole.
    """
    repairs: list[str] = []
    text = _bare(text, repairs)
    cut = finish == "length"
    if alone:
        turns: tuple[Turn, ...] = (Turn("assistant", _answer(text, repairs, cut)),)
    else:
        pairs = read_pairs(text, repairs) if looks_like_json(text) else text_pairs(text, repairs, cut)
        turns = tuple(turn for asked, said in pairs for turn in (Turn("user", asked), Turn("assistant", said)))
    return Parsed(turns, tuple(dict.fromkeys(repairs)))


def parse_dialogue(text: str) -> tuple[Turn, ...]:
    """The turns of a reply with questions and answers. Raises ReplyError."""
    return parse_reply(text).turns


def parse_answer(text: str, question: str) -> tuple[Turn, ...]:
    """The turns where the reply is the answer to `question`. Raises ReplyError."""
    return Turn("user", question), *parse_reply(text, alone=True).turns


def to_json(parsed: Parsed) -> str:
    """The reply in the JSON format, as a teacher that keeps to a schema would write it."""
    texts = [turn.text for turn in parsed.turns]
    if len(texts) == 1:
        return json.dumps({"answer": texts[0]}, ensure_ascii=False)
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return json.dumps({"turns": [{"question": asked, "answer": said} for asked, said in pairs]}, ensure_ascii=False)


def _bare(text: str, repairs: list[str]) -> str:
    """The text without what stands around it. Raises ReplyError if nothing is left."""
    clean = text.replace("\r\n", "\n").replace("\r", "\n")
    if not clean.isascii():
        clean = clean.translate(_INVISIBLE)
    if clean != text:
        repairs.append("line_ends")
    if thought := _THINK.match(clean):
        clean = clean[thought.end() :]
        repairs.append("thinking")
    elif _OPEN_THINK.match(clean):
        raise ReplyError("unfinished_thinking")
    fenced = _FENCE.search(clean)
    if fenced and _only_chatter(clean[: fenced.start()], clean[fenced.end() :]):
        around = clean[: fenced.start()] + clean[fenced.end() :]
        repairs += ["code_fence", "chatter"] if around.strip() else ["code_fence"]
        clean = fenced[1]
    if not clean.strip():
        raise ReplyError("empty_reply")
    return clean


def _only_chatter(before: str, after: str) -> bool:
    """Whether there is not more around a code block than a sentence on either side."""
    return all(len(part.split()) <= 30 and "===" not in part for part in (before, after))


def _answer(text: str, repairs: list[str], cut: bool) -> str:
    if looks_like_json(text):
        return read_answer(text, repairs)
    if cut:
        raise ReplyError("truncated")
    answer = read_other(text, repairs) or without_marker(text.strip(), repairs)
    for pattern in _chatter():
        shorter = pattern.sub("", answer, count=1).strip()
        if shorter and shorter != answer:
            repairs.append("chatter")
            answer = shorter
    if not answer:
        raise ReplyError("empty_reply")
    return answer


@cache
def _chatter() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in load_yaml("vistune.generate", "chatter.yaml"))
