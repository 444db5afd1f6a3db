"""Replies in the JSON format: `{"turns": [{"question": …, "answer": …}]}`, or `{"answer": …}`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from vistune.generate.reply_error import ReplyError

_START = re.compile(
    r"[\[{]\s*(?:[\[{]\s*)*[\"'\u201c](?:turns|questions?|answer|conversation|dialogue|pairs|q|a)\b", re.IGNORECASE
)
_OTHER = re.compile(r"\s*[\[{]\s*(?:[\[{]\s*)*[\"'\u201c]\w[^\"'\u201d]*[\"'\u201d]\s*:")
_OBJECT = re.compile(r"\{\s*\"(?:question|q)\"\s*:", re.IGNORECASE)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(\s*[}\]])', re.DOTALL)
_LISTS = ("turns", "conversation", "dialogue", "questions", "pairs")
_CURLY = str.maketrans({"\u201c": '"', "\u201d": '"'})


def looks_like_json(text: str) -> bool:
    """Whether a reply has an object of ours in it, whole or not."""
    start = _START.search(text)
    return start is not None and "===" not in text[: start.start()] and len(text[: start.start()].split()) <= 30


def read_pairs(text: str, repairs: list[str]) -> list[tuple[str, str]]:
    """The questions with their answers. Raises ReplyError."""
    body = _body(text, repairs)
    value = _value(body, repairs)
    turns = _whole_turns(body, repairs) if value is None else _turns(value)
    pairs = [(_text(turn, "question", "q"), _text(turn, "answer", "a")) for turn in turns]
    if not pairs:
        raise ReplyError("empty_reply")
    return pairs


def read_answer(text: str, repairs: list[str]) -> str:
    """The answer alone. Raises ReplyError; one that is cut off cannot be repaired."""
    body = _body(text, repairs)
    value = _value(body, repairs)
    if value is None:
        raise ReplyError("broken_json" if body.rstrip().endswith("}") else "truncated")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _text(value, "answer", "a")


def read_other(text: str, repairs: list[str]) -> str | None:
    """The one text of an object under whatever key; None for what is no object. Raises ReplyError for other objects."""
    if not _OTHER.match(text):
        return None
    value = _value(text.lstrip(), repairs)
    if value is None:
        raise ReplyError("broken_json")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    texts = list(value.values()) if isinstance(value, dict) else []
    if len(texts) != 1 or not isinstance(texts[0], str) or not texts[0].strip():
        raise ReplyError("wrong_schema")
    repairs.append("other_key")
    return texts[0].strip()


def _body(text: str, repairs: list[str]) -> str:
    start = _START.search(text)
    assert start is not None  # looks_like_json said so
    if text[: start.start()].strip():
        repairs.append("chatter")
    return text[start.start() :]


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", str),
    ("trailing_comma", lambda text: _COMMA.sub(lambda found: found[1] or found[2], text)),
    ("quotes", lambda text: text.translate(_CURLY)),
)
"""What a reply is read as, in this order, and the repair that this is."""


def _value(text: str, repairs: list[str]) -> Any:
    """What the JSON says, with harmless mistakes put right; None if it cannot be read as a whole."""
    for name, form in _FORMS:
        found: list[str] = [name] if name else []
        values = _decoded(form(text), found)
        if values is None:
            continue
        repairs += found
        if len(values) > 1:
            repairs.append("several_objects")
        return values[0] if len(values) == 1 else values
    return _literal(text, repairs)


def _decoded(text: str, repairs: list[str]) -> list[Any] | None:
    """The values that follow each other, and after them nothing but words; None if the first is broken."""
    values: list[Any] = []
    at = 0
    while True:
        for strict in (True, False):
            try:
                value, end = json.JSONDecoder(strict=strict).raw_decode(text, at)
            except (ValueError, RecursionError):
                continue
            break
        else:
            return None
        values.append(value)
        if not strict:
            repairs.append("raw_text")
        rest = _START.search(text, end)
        if rest is None:
            if text[end:].strip(" \n\t,`"):
                repairs.append("chatter")
            return values
        at = rest.start()


def _literal(text: str, repairs: list[str]) -> Any:
    """The value of an object with single quotes, as Python writes it; None if it is no such thing."""
    end = max(text.rfind("}"), text.rfind("]")) + 1
    try:
        value = ast.literal_eval(text[:end])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    repairs.append("quotes")
    return value


def _whole_turns(text: str, repairs: list[str]) -> list[Any]:
    """The turns before the place where the reply was cut off. Raises ReplyError if it is broken in another way."""
    turns: list[Any] = []
    at = 0
    while start := _OBJECT.search(text, at):
        try:
            turn, at = json.JSONDecoder(strict=False).raw_decode(text, start.start())
        except ValueError as error:
            if _OBJECT.search(text, start.end()) or not _cut_off(text, error):
                raise ReplyError("broken_json") from None
            break
        turns.append(turn)
    if not turns:
        raise ReplyError("truncated" if not text.rstrip().endswith(("}", "]")) else "broken_json")
    repairs.append("truncated")
    return turns


def _cut_off(text: str, error: ValueError) -> bool:
    """Whether the JSON just ends too early."""
    assert isinstance(error, json.JSONDecodeError)
    return error.msg.startswith("Unterminated string") or len(text.rstrip()) - error.pos <= 1


def _turns(value: Any) -> list[Any]:
    if isinstance(value, dict):
        named = {str(key).lower(): content for key, content in value.items()}
        lists = [named[name] for name in _LISTS if isinstance(named.get(name), list)]
        return lists[0] if lists else [value]
    if not isinstance(value, list):
        raise ReplyError("wrong_schema")
    if all(isinstance(one, dict) and any(name in one for name in _LISTS) for one in value):
        return [turn for one in value for turn in _turns(one)]
    return value


def _text(turn: Any, *names: str) -> str:
    named = {str(key).lower(): content for key, content in turn.items()} if isinstance(turn, dict) else {}
    texts = [named[name] for name in names if isinstance(named.get(name), str)]
    if not texts:
        raise ReplyError("wrong_schema")
    if not texts[0].strip():
        raise ReplyError("empty_turn")
    return str(texts[0]).strip()
