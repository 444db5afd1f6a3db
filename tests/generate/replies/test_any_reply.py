"""Whatever a teacher replies: turns or a reason code, in time that grows with the reply's length."""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from spoiling import ODD, spoilt_bytes
from vistune.generate.replies import ParsedReply, ReplyError, parse_reply, to_json
from vistune.records import Turn

pytest.importorskip("hypothesis", reason="the fuzzing tests need hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = "Question:\nWhat is it?\n===\nAnswer:\nA dog.\n===\nQuestion:\nWhere?\n===\nAnswer:\nOn the left,\nby the door."
JSON = to_json(ParsedReply((Turn("user", "What is it?"), Turn("assistant", "A dog."))))
SOUND = (
    TEXT, JSON, f"```json\n{JSON}\n```", f"<think>\nHm.\n</think>\n{TEXT}", f"Sure!\n{TEXT}\nLet me know if it helps.",
    TEXT.replace("===\n", "").replace("Question", "**Q1").replace("Answer", "**A1"), "A dog lies on a rug.",
    "| Question | Answer |\n|---|---|\n| What? | A dog. |", "1. What is it?\n- A dog.\n2. Where?\n- There.",
    "<question>What?</question><answer>A dog.</answer>", '{"answer": "A dog."}', JSON.replace('"', "'"),
    '{"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A dog."}]}',
)  # fmt: skip
PIECES = (
    "[", "{", "]", "}", "[{", '{"turns":[', '{"a":', '"', "\\", "'", ",", "\n", " ", "===\n", "Question:\n",
    "Q: a?\nA: b\n", "Question: a\n", "Answer: b\n", "**", "**a", "**a ", "__", "__a ", "*a ", "*a", "_a", "_a ", "`",
    "`a\n", "# ", "- ", "1. ", "1. a?\n", "| a ", "|a|b|\n", "<", "<think>", "<think>a", "</think>",
    "<think>a</think>", "<question>", "<answer>", "<question>a", "<|im_end|>", "<s>", "<|im_start|>", "```",
    "```json\n", "&amp;", "&", "\u201c", "a ", "a? ", "(", "Note: ", "\n\nNote:", "\nassistant", "a\n\n", "\n \n",
    "9", "9,", "\u95ee\u9898\uff1a", "Sure: ", "Sure, here\n", "\x00", "\ud800", "\u00e9", "Human: a\n", "a:\n", "\t",
    "\r", "\u3000", "---\n", "**a?**\n", '{"q": "a"}', '"a": ', "\\u",
)  # fmt: skip
"""What is repeated in a reply that is to take a parser long."""
KEYS = ("turns", "question", "answer", "role", "content", "from", "value", "q1", "a1", "x")
VALUES = st.recursive(
    st.sampled_from(ODD) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def parse(text: str, answer_only: bool = False, finish: str = "") -> None:
    with suppress(ReplyError):
        assert parse_reply(text, answer_only, finish).turns


@settings(max_examples=10_000, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(SOUND), st.randoms(use_true_random=False))
def test_ten_thousand_spoilt_replies(sound: str, draw: random.Random) -> None:
    text = spoilt_bytes(sound.encode(), draw).decode("utf-8", draw.choice(("replace", "ignore", "surrogateescape")))
    if draw.random() < 0.3:
        start = draw.randrange(len(text) + 1)
        text = text[:start] + draw.choice(PIECES) * draw.choice((1, 2, 50)) + text[start:]
    parse(text, draw.random() < 0.3, draw.choice(("", "stop", "length", "content_filter", "thinking")))


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(VALUES)
def test_json_of_any_values(value: Any) -> None:
    parse(json.dumps(value))
    parse(json.dumps({"turns": value}))
    parse(json.dumps({"answer": value}), answer_only=True)


def steps(text: str, answer_only: bool) -> int:
    """The lines of Python that run while a reply is parsed."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        parse(text, answer_only)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("piece", PIECES, ids=repr)
@pytest.mark.parametrize("answer_only", [False, True])
def test_the_steps_grow_with_the_length(piece: str, answer_only: bool) -> None:
    short, long = (steps(piece * count, answer_only) for count in (250, 1000))
    assert long <= 4.5 * short + 2_000


@pytest.mark.parametrize("text", ["[" * 20_000, '{"turns": ' + "[" * 20_000, "{" * 20_000 + "}" * 20_000])
def test_nothing_nested_so_deep_is_parsed(text: str) -> None:
    with pytest.raises(ReplyError, match="broken_json"):
        parse_reply(text)
