"""A teacher's reply as turns, or the reason why it is unusable.

Both formats are accepted, whichever was requested: text with `Question:` and `Answer:` blocks between lines of `===`,
or JSON. Harmless mistakes are repaired here, so that no reply is paid for twice; every repair has a name:

`line_ends` `thinking` (text up to the last closing <think> tag) `code_fence` `chatter` (words before or after)
`marker` (`Q:`, `**Question 1:**` …) `separator` (`---` or nothing between blocks) `raw_text` (line ends inside a JSON
string) `quotes` (curly ones) `json` (commas, brackets, other quotes: json_repair) `several_objects` `other_key`
`truncated` (incomplete turns dropped).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from vistune.generate.replies.json_reply import looks_like_json, looks_like_one_text, read_answer, read_pairs
from vistune.generate.replies.text import ReplyError, text_pairs, without_marker
from vistune.records import Turn
from vistune.resources import load_yaml

__all__ = ["ParsedReply", "ReplyError", "parse_reply", "to_json"]

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
# <think>, <thinking>, <reasoning>, Seed-OSS's <seed:think>; templates of R1 open the tag in the prompt, so that the
# reply may hold the closing one alone
_THOUGHTS = re.compile(r".*</(?:\w+:)?(?:think|thinking|reasoning)\s*>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"\s*<(?:\w+:)?(?:think|thinking|reasoning)\s*>", re.IGNORECASE)
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
    text = _unwrapped(text, repairs)
    cut = finish == "length"
    if answer_only:
        turns: tuple[Turn, ...] = (Turn("assistant", _answer(text, repairs, cut)),)
    else:
        pairs = read_pairs(text, repairs) if looks_like_json(text) else text_pairs(text, repairs, cut)
        turns = tuple(
            turn for question, answer in pairs for turn in (Turn("user", question), Turn("assistant", answer))
        )
    return ParsedReply(turns, tuple(dict.fromkeys(repairs)))


def to_json(parsed: ParsedReply) -> str:
    """The reply in the JSON format, as a teacher that follows the schema writes it."""
    texts = [turn.text for turn in parsed.turns]
    if len(texts) == 1:
        return json.dumps({"answer": texts[0]}, ensure_ascii=False)
    pairs = zip(texts[::2], texts[1::2], strict=True)
    turns = [{"question": question, "answer": answer} for question, answer in pairs]
    return json.dumps({"turns": turns}, ensure_ascii=False)


def _unwrapped(text: str, repairs: list[str]) -> str:
    """The text without thoughts and code fences. Raises ReplyError if nothing is left."""
    clean = text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
    if clean != text:
        repairs.append("line_ends")
    if (thoughts := _THOUGHTS.match(clean)) and not _is_json(clean):  # a tag within a JSON text is for the filters
        clean = clean[thoughts.end() :]
        repairs.append("thinking")
    if _OPEN_THOUGHT.match(clean):
        raise ReplyError("unfinished_thinking")
    fenced = _FENCE.search(clean)
    if fenced and _only_chatter(clean[: fenced.start()], clean[fenced.end() :]):
        around = clean[: fenced.start()] + clean[fenced.end() :]
        repairs += ["code_fence", "chatter"] if around.strip() else ["code_fence"]
        clean = fenced[1]
    if not clean.strip():
        raise ReplyError("empty_reply")
    return clean


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _only_chatter(before: str, after: str) -> bool:
    """Whether a code block has at most a sentence on either side."""
    return all(len(part.split()) <= 30 and "===" not in part for part in (before, after))


def _answer(text: str, repairs: list[str], cut: bool) -> str:
    if looks_like_json(text) or looks_like_one_text(text):
        return read_answer(text, repairs)
    if cut:
        raise ReplyError("truncated")
    answer = without_marker(text.strip(), repairs)
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
    patterns = load_yaml("vistune.generate.replies", "chatter.yaml")
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
