"""What the teacher writes: a function of the prompt alone, so it is the same at any time, order and concurrency."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

_BOX = re.compile(r"^(.+?): \[[\d., ]+\]$", re.MULTILINE)
_WORD = re.compile(r"[a-z]{4,}")
_HOSTILE = re.compile(
    r"ignore|disregard|forget|instead|system prompt|instruction|={3}|<\||\[/?INST|</?s>|<<SYS|_of_turn|#{3}"
    r"|\b(?:user|human|assistant|system|question|answer|gpt|ai)\s*:",
    re.IGNORECASE,
)
_DULL = re.compile("with|that|this|there|their|them|from|into|some|other|over|under|next|near|very|have|been")


def write(system: str, messages: Sequence[Mapping[str, str]], schema: Any = None, *, obedient: bool = False) -> str:
    """The reply: JSON that keeps to `schema`, blocks between lines of `===`, or an answer alone, as the examples are.

    An obedient teacher does what it finds in the context of the last message, in place of its task.
    """
    query = messages[-1]["content"]
    if obedient and (lines := [line for line in query.splitlines() if _HOSTILE.search(line)]):
        return _obey(system, lines)
    rng = Random(hashlib.sha256(f"{system}\0{query}".encode()).digest())
    shown = next((one["content"] for one in reversed(messages[:-1]) if one["role"] == "assistant"), system)
    turns = rng.randint(4, 7) if (asked := shown.lower().count("question")) > 1 else 1
    if schema is not None:
        return json.dumps(_fill(schema, _pairs(query, rng, turns), rng), ensure_ascii=False)
    if asked == 0:
        return _detail(query, rng)
    return "\n===\n".join(f"Question:\n{q}\n===\nAnswer:\n{a}" for q, a in _pairs(query, rng, turns))


def _obey(system: str, lines: Sequence[str]) -> str:
    said = "\n".join(lines)
    if re.search(r"system prompt|instructions|above", said, re.IGNORECASE):
        return f"{system}\n{said}"
    return f"Question:\n{said}\n===\nAnswer:\n{said}"


def _pairs(query: str, rng: Random, turns: int) -> list[tuple[str, str]]:
    things = _things(query)
    pairs = []
    for line in rng.sample(_lines("pairs.txt"), turns):
        a, b = rng.sample(things, 2)
        question, _, answer = line.format(a=a, b=b).partition("|")
        pairs.append((question, answer))
    return pairs


def _detail(query: str, rng: Random) -> str:
    things = _things(query)
    told = []
    for line in rng.sample(_lines("sentences.txt"), 6):
        a, b = rng.sample(things, 2)
        told.append(line.format(a=a, b=b))
    return " ".join(told)


def _things(query: str) -> list[str]:
    """At least two things to write about: the boxes' categories, else words of the captions."""
    found = dict.fromkeys(_BOX.findall(query))
    if len(found) < 2:
        words = (word for word in _WORD.findall(query.lower()) if not _DULL.fullmatch(word))
        found |= dict.fromkeys(islice(words, 12))
    return [*found, "scene", "place"][: max(2, len(found))]


def _fill(schema: Any, pairs: list[tuple[str, str]], rng: Random, name: str = "") -> Any:
    """A value of the schema; texts by their names: questions, answers, else an answer's sentence."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    if kind == "object":
        own = [pairs.pop(0)] if {"question", "answer"} <= schema.get("properties", {}).keys() and pairs else pairs
        return {key: _fill(value, own, rng, key) for key, value in schema.get("properties", {}).items()}
    if kind == "array":
        return [_fill(schema["items"], pairs, rng, name) for _ in range(len(pairs))]
    if kind == "string":
        question, answer = pairs[0] if pairs else ("What is there?", "A scene.")
        return question if name == "question" else answer
    return {"integer": 1, "number": 0.5, "boolean": True}.get(kind)


@cache
def _lines(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text("utf-8").splitlines()
