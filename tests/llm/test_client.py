from __future__ import annotations

from dataclasses import replace

from vistune.llm import Request
from vistune.llm.client import valid_usage
from vistune.records import Turn

REQUEST = Request("be kind", (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")), "detail", 3, "7")


def test_the_key_never_changes() -> None:
    """With another key every stored reply would be requested, and paid for, again."""
    assert REQUEST.key("teacher") == "24e135dbc338678ae30f0e56559793d36fb8de55df810ac38c7b70b49516bfb2"


def test_the_key_depends_on_everything_that_is_sent_and_on_the_model() -> None:
    others = [
        replace(REQUEST, system="be brief"),
        replace(REQUEST, seed=4),
        replace(REQUEST, kind="reasoning"),
        replace(REQUEST, max_tokens=9),
        replace(REQUEST, messages=REQUEST.messages[2:]),
        replace(REQUEST, messages=(Turn("user", "ab"), *REQUEST.messages[1:])),
        replace(REQUEST, messages=(Turn("assistant", "a"), *REQUEST.messages[1:])),
    ]
    keys = {REQUEST.key("teacher"), REQUEST.key("other"), *(one.key("teacher") for one in others)}
    assert len(keys) == 2 + len(others)
    assert replace(REQUEST, record_id="8", vocabulary=("dog",)).key("teacher") == REQUEST.key("teacher")


def test_a_count_of_tokens_outside_0_to_2_53_is_absent() -> None:
    counts = {"a": 0, "b": 2**31, "c": 2**31 + 1, "d": -1, "e": None, "f": 1.5, "g": True, "h": "7"}
    assert valid_usage(counts) == {"a": 0, "b": 2**31}
